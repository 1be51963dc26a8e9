"""The rules of a site file: each field says what it takes, and every breach is reported at once."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP
from assets.node import STAGES
from assets.recipe import find_recipes, load_recipe
from olmo_core.config.load import Tree, nearest
from olmo_core.errors import ConfigError
from pipelines.names import Kind, refusal, shown

# Parts of a variable's name, between underscores, that end so: HF_TOKEN, WANDB_API_KEY, PGPASSWORD;
# but not TOKENIZERS_PARALLELISM.
SECRET = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?=_|\Z)", re.I)
WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")  # an address with a user's password in it


@dataclass(frozen=True)
class Problem:
    """A value that cannot stand: the way to it in the file, and why."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        parts = (f"[{part}]" if isinstance(part, int) else f".{_plain(part)}" for part in self.path)
        return f"{''.join(parts).removeprefix('.')}: {self.message}"


def allow(kind: Kind, *, keys: Kind | None = None, secrets: str = "") -> dict[str, Any]:
    """Return a field's rule: what its text, list items or mapping's values may look like.

    Args:
        kind: What the values may look like.
        keys: What the keys of a mapping may look like.
        secrets: Where a secret belongs instead of this mapping; empty: it may stand here.
    """
    return {"kind": kind, "keys": keys, "secrets": secrets}


def within(least: float, most: float) -> dict[str, Any]:
    """Return a field's rule: a number within these bounds."""
    return {"least": least, "most": most}


def problems(section: Any, path: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """Yield every value of a section, and of those in it, that breaks its field's rule."""
    for field in dataclasses.fields(section):
        value, here, rule = getattr(section, field.name), (*path, field.name), field.metadata
        if value is None:
            continue
        if dataclasses.is_dataclass(value):
            yield from problems(value, here)
        elif "least" in rule:
            if not rule["least"] <= value <= rule["most"]:  # also false of NaN
                message = f"found {value:,}; expected {rule['least']:,} to {rule['most']:,}"
                yield Problem(here, message)
        elif "kind" in rule:
            yield from _broken(value, here, rule)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from problems(item, (*here, key))


def _broken(value: Any, path: tuple[str | int, ...], rule: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield each text, list item, or entry of a mapping that breaks its field's rule."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in [(None, value)] if isinstance(value, str) else items:
        reason = refusal(key, rule["keys"]) if rule["keys"] else None
        if reason is None and rule["secrets"]:
            reason = _secret(str(key), item, rule["secrets"])
        if reason := reason or refusal(item, rule["kind"]):
            yield Problem(path if key is None else (*path, key), reason)


def _secret(name: str, value: str, elsewhere: str) -> str | None:
    """Return why a variable may not stand in a file; its value is in no message."""
    if SECRET.search(name):
        return f"the name says that this is a secret, which belongs in no file; {elsewhere}"
    if WITH_PASSWORD.search(value):
        return f"the value holds a password, which belongs in no file; {elsewhere}"
    return None


def work_problems(work: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the keys of `work` that name no stage or asset, and workers that would get no tasks."""
    recipes = find_recipes()
    for key, shape in work.items():
        if key == "corpus" or (key in STAGES and not shape.workers):
            continue
        recipe, slash, asset = key.rpartition("/")
        if slash and recipe not in recipes:
            message = f"no recipe {shown(recipe)} on the search path; {nearest(recipe, recipes)}"
            yield Problem(("work", key), message)
            continue
        assets = _assets([recipe] if slash else recipes)
        known = [*([] if slash else STAGES), *assets]
        if asset not in known:
            whose = f"{recipe} has no asset" if slash else "no stage and no asset"
            yield Problem(("work", key), f"{whose} {shown(asset)}; {nearest(asset, known)}")
        elif shape.workers and not assets.get(asset):
            sharing = ", ".join(name for name, shares_tasks in assets.items() if shares_tasks)
            yield Problem(
                ("work", key, "workers"),
                f"found {shape.workers}; expected 0: of stage corpus, {sharing} share tasks with "
                "workers",
            )


def _assets(recipes: Iterable[str]) -> dict[str, bool]:
    """Return the assets of the recipes and the sweep, and whether each shares its tasks."""
    found = dict.fromkeys(SWEEP, False)
    for name in recipes:
        with contextlib.suppress(ConfigError):  # said when that recipe is asked for
            nodes = build_graph(load_recipe(name)).nodes
            found.update({asset: node.shares_tasks for asset, node in nodes.items()})
    return found


def placed(tree: Tree, problem: Problem) -> str:
    """Return a problem with the file and the line on which it stands."""
    place, values = tree.file, tree
    for part in problem.path:
        if not isinstance(values, Tree):
            break
        place = values.places.get(str(part), place)
        values = values.get(str(part))
    return f"{place}: {problem}"


def _plain(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_./-]{1,128}", key) else shown(key)
