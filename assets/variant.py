"""Save variants of a recipe: values given on a command line, written as recipes that extend it."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from assets import recipe as recipes
from olmo_core.config.load import Tree, apply_override, nearest, to_dict
from olmo_core.errors import ConfigError
from olmo_core.files import fsync, write_atomic


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A recipe that extends `base` by `changes`, by file; `settings` is what a person wrote."""

    name: str
    base: str
    settings: tuple[str, ...]
    changes: Mapping[str, Tree]

    def recipe(self) -> recipes.Recipe:
        """Return the resolved recipe, saved or not."""
        folder = recipes.save_folder() / self.name
        sections = recipes.extended(self.base, self.changes)
        return recipes.Recipe(name=self.name, folder=folder, **sections)

    def save(self) -> Path:
        """Write the recipe where the search path finds it, and return its folder.

        Raises:
            ConfigError: the folder cannot be written.
        """
        existing = recipes.find_recipes().get(self.name)
        if existing is not None:
            return existing
        texts = {recipes.EXTENDS: f"extends: {self.base}\n"}
        for file, tree in self.changes.items():
            values = yaml.safe_dump(to_dict(tree), sort_keys=False, allow_unicode=True)
            texts[f"{file}.yaml"] = values
        return save_recipe(self.name, texts)


def save_recipe(name: str, texts: Mapping[str, str]) -> Path:
    """Write a recipe's files where the search path finds them, and return its folder.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = recipes.save_folder() / name
    beside = folder.with_name(f".{name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        for file, text in texts.items():
            write_atomic(beside / file, text)
        beside.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise ConfigError(f"{folder}: cannot be saved: {str(error.strerror).lower()}") from None
    return folder


def variants_of(recipe: str, settings: Sequence[str], name: str) -> list[Variant]:
    """Return the variants that the settings describe, one per combination of their values.

    Args:
        recipe: The name of a complete recipe.
        settings: `<file>.<key>=<value>`, or several values separated by commas.
        name: What the variant is called; of several, `<name>_1`, `<name>_2`, …

    Raises:
        ConfigError: a setting is malformed, the recipe is a variant itself, or a name is taken.
    """
    base = recipes.base_of(recipes.recipe_folder(recipe))
    if base is not None:
        raise ConfigError(
            f"--set: {recipe!r} itself extends {base!r}, and a variant of a variant is not kept; "
            f"give all that differs: olmo run {base} --set …"
        )
    combinations = list(itertools.product(*map(_alternatives, settings)))
    several = len(combinations) > 1
    made = [
        Variant(
            name=f"{name}_{number}" if several else name,
            base=recipe,
            settings=combination,
            changes=_changes(combination),
        )
        for number, combination in enumerate(combinations, start=1)
    ]
    for variant in made:
        recipes.require_name(variant.name, f"--as {variant.name}")
        folder = recipes.find_recipes().get(variant.name)
        wanted = (recipe, variant.changes)
        if folder and (recipes.base_of(folder), recipes.changed_files(folder)) != wanted:
            raise ConfigError(
                f"--as {variant.name}: a recipe of this name with other values is there ({folder});"
                f" choose another name, or run it as it stands: olmo run {variant.name}"
            )
    return made


def _alternatives(setting: str) -> list[str]:
    """Return a setting once per value that it lists."""
    key, equals, value = setting.partition("=")
    file, dot, _ = key.partition(".")
    if not equals or not dot:
        raise ConfigError(
            f"--set {setting}: expected <file>.<key>=<value>, as in "
            "stage1.optimizer.learning_rate=2e-3"
        )
    if file not in recipes.FILES:
        known = nearest(file, recipes.FILES)
        raise ConfigError(f"--set {setting}: no file {file!r} in a recipe; {known}")
    values = list(_split(value))
    if len(set(values)) < len(values):
        raise ConfigError(f"--set {setting}: two values are equal; they would be one recipe twice")
    return [f"{key}={each}" for each in values]


def _split(value: str) -> Iterator[str]:
    """Split at the commas that stand in no brackets and no quotes."""
    text, node, compose = f"[{value}]", None, cast(Any, yaml).compose
    with contextlib.suppress(yaml.YAMLError):  # one value such as `${oc.env:A,b}`; checked later
        node = compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
        yield value
        return
    for part in node.value:
        yield text[part.start_mark.index : part.end_mark.index].strip()


def _changes(settings: Sequence[str]) -> dict[str, Tree]:
    changes: dict[str, Tree] = {}
    for setting in settings:
        file, _, override = setting.partition(".")
        source = f"--set {file}"
        tree = changes.setdefault(file, Tree({}, file=source))
        apply_override(tree, override, place=source)
    return changes
