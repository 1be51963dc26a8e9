"""Recipes: folders of YAML that say what a model is made of; found on a search path.

A recipe is `corpus.yaml`, `stage1.yaml`, `stage2.yaml` and `evals.yaml`; without `stage2.yaml` it
ends with stage 1. In `corpus.yaml` and `evals.yaml` each section is named as the asset that it
describes. `budget.yaml`, if there is one, says what its runs may take, and `release.yaml` what of
its data may be published; neither decides a result. A variant has a `recipe.yaml` that says
`extends: <recipe>`, and of the other files only the values that differ.
"""

import copy
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from assets.paths import CHECKOUT, root
from olmo_core import environment
from olmo_core.config.ingredients import choose_ingredient, ingredient_mix, ingredient_values
from olmo_core.config.load import Tree, build, load, nearest
from olmo_core.config.load_tree import merge
from olmo_core.config.train import TrainConfig, build_train_config
from olmo_core.errors import ConfigError
from olmo_core.forecast.budget import BudgetConfig

T = TypeVar("T")

FILES = ("corpus", "stage1", "stage2", "evals", "budget", "release")
OPTIONAL = ("stage2", "budget", "release")
EXTENDS = "recipe.yaml"
SAVED = "recipes"  # below the root: the variants that have been saved

# A name becomes a folder, a Dagster key and a part of job names: letters that all of them take.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
# Folders of the root that are no recipe's.
TAKEN = ("cache", "dagster", SAVED, "results")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe, complete; sections are checked when they are asked for."""

    name: str
    folder: Path
    corpus: Tree
    stage1: Tree
    stage2: Tree | None
    evals: Tree
    budget: Tree | None = None
    release: Tree | None = None

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
        """Return the training configuration of stage 1, without places."""
        return _training(self.stage1)

    def ingredients(self) -> list[tuple[Tree, TrainConfig]]:
        """Return stage 2's ingredients: the values that set each apart, and its configuration.

        None in a recipe without a stage 2.

        Raises:
            ConfigError: `ingredients` is no list of two or more different mappings.
        """
        if self.stage2 is None:
            return []
        values = ingredient_values(self.stage2)
        if not values:
            raise ConfigError(
                f"{self.stage2.file}: ingredients: missing; expected a list of at least two "
                "mappings, as in [{seed: 42}, {seed: 666}], or no stage2.yaml at all"
            )
        return [
            (value, _training(self.ingredient_tree(number)))
            for number, value in enumerate(values, start=1)
        ]

    def ingredient_tree(self, number: int) -> Tree:
        """Return stage2.yaml with the values of one ingredient (from 1) in place."""
        tree = copy.deepcopy(self.stage2)  # values are put in place
        assert tree is not None
        choose_ingredient(tree, number)
        return tree

    @property
    def mixes(self) -> tuple[str, ...]:
        """The assets that say which tokens its stages read; ingredients may have their own."""
        values = [] if self.stage2 is None else ingredient_values(self.stage2)
        return tuple(dict.fromkeys(("stage1_mix", *map(ingredient_mix, values))))

    def trainings(self, mix: str) -> list[TrainConfig]:
        """Return the configurations of the runs that read a mix."""
        if mix == "stage1_mix":
            return [self.stage1_config()]
        return [config for values, config in self.ingredients() if ingredient_mix(values) == mix]

    def expect_sections(self, file: str, names: list[str]) -> None:
        """Refuse sections of `<file>.yaml` that no asset reads."""
        tree: Tree = getattr(self, file)
        for key in tree:
            if key not in names:
                raise ConfigError(
                    f"{tree.place(key)}: {key}: unknown section; {nearest(key, names)}"
                )


def require_unset(section: Tree, asset: str, keys: Mapping[str, str]) -> None:
    """Refuse keys of an asset's section that the graph sets; each has from what, in words."""
    for key, source in keys.items():
        if key in section:
            raise ConfigError(
                f"{section.place(key)}: {asset}: {key}: the graph sets it, {source}; take it out"
            )


# Set by the graph: where tokens and first weights come from is what it is there to know.
SET_BY_THE_GRAPH = ("load_path", "save_folder", "data.paths", "core.manifest", "core.roots")


def _training(tree: Tree) -> TrainConfig:
    for dotted in SET_BY_THE_GRAPH:
        section, _, key = dotted.rpartition(".")
        values = tree.get(section) if section else tree
        if isinstance(values, Tree) and values.get(key) is not None:
            raise ConfigError(
                f"{values.place(key)}: {dotted}: the graph sets it; take it out of the recipe"
            )
    return build_train_config(tree)[0]


def search_path() -> list[Path]:
    """Return the folders that hold recipes, the first to be searched first.

    Those of `OLMO_RECIPES` (as in PATH), the one of saved variants, the checkout's.
    """
    saved = [folder for folder in [root() / SAVED] if folder.is_dir()]
    return [*environment.recipe_folders(), *saved, CHECKOUT / "pipelines" / "recipes"]


def save_folder() -> Path:
    """Return the folder on the search path in which variants are saved."""
    return next(iter(environment.recipe_folders()), root() / SAVED)


def find_recipes() -> dict[str, Path]:
    """Return the folders of all recipes on the search path, by name; the first of a name wins."""
    found: dict[str, Path] = {}
    for folder in search_path():
        if not folder.is_dir():
            raise ConfigError(f"OLMO_RECIPES: {folder}: no such folder")
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and any(
                (path / file).is_file() for file in ("corpus.yaml", EXTENDS)
            ):
                found.setdefault(path.name, path)
    return found


def load_recipe(name: str) -> Recipe:
    """Read the recipe `name`.

    Raises:
        ConfigError: no such recipe (the nearest one is named), one of its files is malformed, or
            what it extends is no complete recipe.
    """
    folder = recipe_folder(name)
    base = base_of(folder)
    files = _complete_files(folder) if base is None else extended(base, changed_files(folder))
    return Recipe(name=name, folder=folder, **files)


def recipe_folder(name: str) -> Path:
    """Return the folder of the recipe `name`.

    Raises:
        ConfigError: no such recipe (the nearest one is named), or its name cannot be one.
    """
    recipes = find_recipes()
    if name not in recipes:
        looked = ", ".join(str(folder) for folder in search_path())
        raise ConfigError(
            f"unknown recipe {name[:80]!r}; {nearest(name, recipes)} (looked in {looked})"
        )
    require_name(name, str(recipes[name]))
    return recipes[name]


def require_name(name: str, found: str) -> None:
    """Refuse what cannot be a recipe's name; `found` is what the error shows.

    Raises:
        ConfigError: as said.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{found!a}: a recipe's name is a letter, then letters, digits and _ (at most 63)"
        )
    if name in TAKEN:
        raise ConfigError(
            f"{found!a}: no recipe can be named {name}: the root keeps something else in a folder "
            "of this name"
        )


def base_of(folder: Path) -> str | None:
    """Return the name of the recipe that the recipe in `folder` extends; None if it is complete.

    Raises:
        ConfigError: there is no such recipe, or it is the recipe itself or a variant.
    """
    if not (folder / EXTENDS).is_file():
        return None
    tree = load(folder / EXTENDS)
    base, place = build(_Extends, tree).extends, f"{tree.place('extends')}: extends"
    recipes = find_recipes()
    if base == folder.name:
        raise ConfigError(f"{place}: {base!r} is this recipe itself")
    if base not in recipes:
        raise ConfigError(f"{place}: unknown recipe {base!r}; {nearest(base, recipes)}")
    if (recipes[base] / EXTENDS).is_file():
        further = build(_Extends, load(recipes[base] / EXTENDS)).extends
        raise ConfigError(
            f"{place}: {base!r} itself extends {further!r}; extend {further!r}, and repeat here "
            f"what {base!r} changes"
        )
    return base


def changed_files(folder: Path) -> dict[str, Tree]:
    """Return the values by which a variant differs, by file.

    Raises:
        ConfigError: a file is malformed, or its name is not that of a recipe's file.
    """
    known = [f"{file}.yaml" for file in FILES]
    paths = [path for path in sorted(folder.glob("*.y*ml")) if path.name != EXTENDS]
    for path in paths:
        if path.name not in known:
            raise ConfigError(f"{path}: no file of a recipe; {nearest(path.name, known)}")
    return {path.stem: load(path) for path in paths}


def limits_of(name: str) -> BudgetConfig | None:
    """Return the budget of a recipe, whose other files are not read; None where there is none.

    Raises:
        ConfigError: budget.yaml is malformed.
    """
    folder = find_recipes().get(name)
    base = base_of(folder) if folder is not None else None
    folders = [each for each in (base and recipe_folder(base), folder) if each]
    trees = [load(path) for each in folders if (path := each / "budget.yaml").is_file()]
    return build(BudgetConfig, functools.reduce(merge, trees)) if trees else None


def extended(base: str, changes: Mapping[str, Tree]) -> dict[str, Any]:
    """Return the files of the complete recipe `base` with `changes` merged into them."""
    files = _complete_files(recipe_folder(base))
    for file, tree in changes.items():
        files[file] = tree if files[file] is None else merge(files[file], tree)
    return files


@dataclass(frozen=True, kw_only=True)
class _Extends:
    """The content of recipe.yaml."""

    extends: str


def _complete_files(folder: Path) -> dict[str, Any]:
    absent = [file for file in OPTIONAL if not (folder / f"{file}.yaml").exists()]
    return {file: None if file in absent else load(folder / f"{file}.yaml") for file in FILES}
