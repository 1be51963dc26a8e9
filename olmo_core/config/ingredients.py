"""The ingredients of a recipe's stage 2: several runs of one file, each with values of its own."""

import json
import re
from typing import Any, cast

from olmo_core.config.load import Tree, apply_override
from olmo_core.errors import ConfigError

KEY = "ingredients"
MIX, DEFAULT_MIX = "mix", "stage2_mix"  # the value that names which mix of corpus.yaml it reads
_MIX_NAME = re.compile(rf"{DEFAULT_MIX}(_[a-z0-9]+)*")


def ingredient_values(tree: Tree) -> list[Tree]:
    """Return what sets each ingredient apart; empty where the file lists none.

    Raises:
        ConfigError: `ingredients` is no list of two or more different mappings.
    """
    if KEY not in tree:
        return []
    place, values = f"{tree.place(KEY)}: {KEY}", tree[KEY]
    if not isinstance(values, list) or len(cast(list[Any], values)) < 2:
        raise ConfigError(
            f"{place}: expected a list of at least two mappings, as in "
            "[{seed: 42}, {seed: 666}]"
        )
    mappings = cast(list[Any], values)
    for index, value in enumerate(mappings):
        if not isinstance(value, Tree):
            raise ConfigError(f"{place}: expected mappings, found {value!r}")
        if value in mappings[:index]:
            raise ConfigError(f"{place}: two are equal; their soup would be one model twice")
    return mappings


def ingredient_mix(values: Tree) -> str:
    """Return the section of corpus.yaml that says which tokens an ingredient reads.

    Raises:
        ConfigError: it cannot be one's name.
    """
    name = values.get(MIX, DEFAULT_MIX)
    if not isinstance(name, str) or not _MIX_NAME.fullmatch(name):
        raise ConfigError(
            f"{values.place(MIX)}: {KEY}: {MIX}: found {name!r}; expected {DEFAULT_MIX}, or a name "
            f"that begins so, as {DEFAULT_MIX}_300b"
        )
    return name


def choose_ingredient(tree: Tree, number: int | None) -> None:
    """Put the values of one ingredient (from 1) into `tree`, in place, and take the list out.

    Raises:
        ConfigError: there is no such ingredient, or there are some and none was chosen.
    """
    values = ingredient_values(tree)
    if number is None and not values:
        return
    if number is None or not 1 <= number <= len(values):
        there = f"1 to {len(values)} (--ingredient=1)" if values else "no ingredients"
        found = "none was chosen" if number is None else f"found {number}"
        raise ConfigError(f"{tree.place(KEY)}: {KEY}: {found}; this file has {there}")
    del tree[KEY]
    chosen = values[number - 1]
    for key, value in chosen.items():  # JSON is YAML, null included
        if key == MIX:  # no key of a training run: it has the manifest
            continue
        apply_override(tree, f"{key}={json.dumps(value)}", place=chosen.place(key))
