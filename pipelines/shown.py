"""Which recipes Dagster shows: what a person works on, and not all that there are to choose from.

A running server keeps what it has loaded. "Reload definitions" in its UI looks again.
"""

from collections.abc import Mapping
from pathlib import Path

from assets.paths import CHECKOUT, root
from assets.recipe import find_recipes
from olmo_core import environment
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError

ALL = "all"
OURS = CHECKOUT / "pipelines" / "recipes"


def shown_recipes() -> list[str]:
    """Return the recipes that have results, a person's own, and those of `OLMO_SHOW`.

    All where there is none of these, as before a first run, and where `OLMO_SHOW` says `all`.

    Raises:
        ConfigError: `OLMO_SHOW` names a recipe that there is not.
    """
    recipes, named = find_recipes(), environment.shown_recipes()
    for name in named:
        if name != ALL and name not in recipes:
            raise ConfigError(
                f"{environment.SHOW}: unknown recipe {name[:80]!r}; {nearest(name, recipes)}"
            )
    return _shown(recipes, named) if ALL not in named else list(recipes)


def _shown(recipes: Mapping[str, Path], named: list[str]) -> list[str]:
    chosen = [
        name
        for name, folder in recipes.items()
        if name in named or folder.parent != OURS or (root() / name).is_dir()
    ]
    return chosen or list(recipes)
