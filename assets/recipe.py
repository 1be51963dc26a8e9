"""Recipes: folders of YAML that say what a model is made of; found on a search path.

A recipe is `corpus.yaml`, `stage1.yaml`, `stage2.yaml` and `evals.yaml`; without `stage2.yaml` it
ends with stage 1. In `corpus.yaml` and `evals.yaml` each section is named as the asset that it
describes.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from assets.paths import CHECKOUT
from olmo_core import environment
from olmo_core.config.ingredients import choose_ingredient, ingredient_values
from olmo_core.config.load import Tree, build, load, nearest
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.errors import ConfigError

T = TypeVar("T")

FILES = ("corpus", "stage1", "evals")

# A name becomes a folder, a Dagster key and a part of job names: letters that all of them take.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe as its author wrote it; sections are checked when they are asked for."""

    name: str
    folder: Path
    corpus: Tree
    stage1: Tree
    stage2: Tree | None
    evals: Tree

    def section(self, file: str, name: str, cls: type[T]) -> T:
        """Build the configuration of the asset `name` from its section of `<file>.yaml`.

        Raises:
            ConfigError: the section is missing or holds something that `cls` does not.
        """
        tree: Tree = getattr(self, file)
        if not isinstance(tree.get(name), Tree):
            raise ConfigError(f"{tree.file}: {name}: section missing; expected a mapping of keys")
        return build(cls, tree[name], where=name)

    def stage1_config(self) -> TrainConfig:
        """The training configuration of stage 1, without places."""
        return _training(self.stage1)

    def ingredients(self) -> list[tuple[Mapping[str, Any], TrainConfig]]:
        """Stage 2's ingredients: the values that set each apart, and its whole configuration.

        None in a recipe without a stage 2.

        Raises:
            ConfigError: `ingredients` is no list of two or more different mappings.
        """
        if self.stage2 is None:
            return []
        file, values = self.stage2.file, ingredient_values(self.stage2)
        if not values:
            raise ConfigError(
                f"{file}: ingredients: missing; expected a list of at least two mappings, as in "
                "[{seed: 42}, {seed: 666}], or no stage2.yaml at all"
            )
        return [(value, _ingredient(file, number)) for number, value in enumerate(values, start=1)]

    @property
    def mixes(self) -> tuple[str, ...]:
        """The assets that say which tokens its stages read."""
        return ("stage1_mix",) if self.stage2 is None else ("stage1_mix", "stage2_mix")

    def expect_sections(self, file: str, names: list[str]) -> None:
        """Refuse sections of `<file>.yaml` that no asset reads."""
        tree: Tree = getattr(self, file)
        for key in tree:
            if key not in names:
                raise ConfigError(
                    f"{tree.file}:{tree.lines.get(key, '?')}: {key}: unknown section; "
                    f"{nearest(key, names)}"
                )


# Set by the graph: where tokens and first weights come from is what it is there to know.
SET_BY_THE_GRAPH = ("load_path", "save_folder", "data.paths", "core.manifest", "core.roots")


def _ingredient(file: str, number: int) -> TrainConfig:
    tree = load(file)  # a tree of its own, since values are put in place
    choose_ingredient(tree, number)
    return _training(tree)


def _training(tree: Tree) -> TrainConfig:
    for dotted in SET_BY_THE_GRAPH:
        section, _, key = dotted.rpartition(".")
        values = tree.get(section) if section else tree
        if isinstance(values, Tree) and values.get(key) is not None:
            line = values.lines.get(key, "?")
            raise ConfigError(
                f"{tree.file}:{line}: {dotted}: the graph sets it; take it out of the recipe"
            )
    return build_train_config(tree)[0]


def search_path() -> list[Path]:
    """Folders that hold recipes: those of `OLMO_RECIPES` (as in PATH), then the checkout's."""
    return [*environment.recipe_folders(), CHECKOUT / "pipelines" / "recipes"]


def find_recipes() -> dict[str, Path]:
    """All recipes on the search path, by name; the first of a name wins."""
    found: dict[str, Path] = {}
    for folder in search_path():
        if not folder.is_dir():
            raise ConfigError(f"OLMO_RECIPES: {folder}: no such folder")
        for path in sorted(folder.iterdir()):
            if path.is_dir() and (path / "corpus.yaml").is_file():
                found.setdefault(path.name, path)
    return found


def load_recipe(name: str) -> Recipe:
    """Read the recipe `name`.

    Raises:
        ConfigError: no such recipe (the nearest one is named), or one of its files is malformed.
    """
    recipes = find_recipes()
    if name not in recipes:
        close = difflib.get_close_matches(name, recipes, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(recipes)}"
        looked = ", ".join(str(folder) for folder in search_path())
        raise ConfigError(f"unknown recipe {name[:80]!r}; {hint} (looked in {looked})")
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{str(recipes[name])!a}: a recipe's name is a letter, then letters, digits and _ "
            "(at most 63)"
        )
    folder = recipes[name]
    files: dict[str, Any] = {file: load(folder / f"{file}.yaml") for file in FILES}
    stage2 = folder / "stage2.yaml"
    files["stage2"] = load(stage2) if stage2.exists() else None
    return Recipe(name=name, folder=folder, **files)
