"""The index of documents of given tokens, whoever made it."""

from pathlib import Path

from assets.paths import root
from assets.reuse import every_run
from olmo_core.run.folder import RunFolder


def index_of(tokens: Path, digest: str, recipe: str) -> RunFolder | None:
    """Return the run of `documents` of tokens of this digest, whoever made it; None: there is none.

    Args:
        tokens: Their run folder: an index in its root comes first.
        digest: Of what it holds.
        recipe: Whose index comes first in the own root.
    """
    recipes = {tokens.parents[2]: tokens.parents[1].name, root(): recipe}  # by root
    for within, name in recipes.items():
        for run in every_run(within / name / "documents", within):
            if run.finished:
                read = run.read_result()["inputs"].get("tokens", {})
                if read.get("digest") == digest:
                    return run
    return None
