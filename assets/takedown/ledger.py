"""What recipes have taken down: `takedown/documents.jsonl` beside a recipe's corpus.yaml.

A list of excluded documents acts on one source of one recipe. This is what all recipes on the
search path are held against: a text that one of them has taken down is in no corpus of another.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assets.recipe import find_recipes
from olmo_core.errors import ConfigError
from olmo_core.files import write_atomic

FOLDER = "takedown"  # beside corpus.yaml
LEDGER = "documents.jsonl"


@dataclass(frozen=True, kw_only=True)
class TakenDown:
    """A document that a recipe has taken down."""

    id: str
    source: str
    sha1: str | None  # of its text; None of a document of a published token file
    url: str | None  # where the URL was asked for: all of it leaves
    why: str
    of: str  # what was asked for


def read_ledger(folder: Path) -> dict[str, TakenDown]:
    """Return what was taken down beside a corpus.yaml in `folder`, by text or id; none: nothing.

    Raises:
        ConfigError: a line is not as `write_ledger` writes it.
    """
    path = folder / FOLDER / LEDGER
    try:
        status = path.stat()
    except FileNotFoundError:
        return {}
    return dict(_read(path, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=64)  # a plan asks for each asset
def _read(path: Path, *_written: int) -> dict[str, TakenDown]:
    found: dict[str, TakenDown] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line:
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            each = TakenDown(**row)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{path}:{number}: {error}; olmo takedown wrote it otherwise"
            ) from None
        found[_key(each)] = each
    return found


def _key(document: TakenDown) -> str:
    return document.sha1 or f"id {document.id}"


def write_ledger(folder: Path, documents: Iterable[TakenDown]) -> int:
    """Add documents to what was taken down; return how many were new."""
    before = read_ledger(folder)
    added = {_key(each): each for each in documents if _key(each) not in before}
    if added:
        rows = (json.dumps(asdict(each)) for each in (*before.values(), *added.values()))
        path = folder / FOLDER / LEDGER
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, "".join(f"{row}\n" for row in rows))
    return len(added)


def everywhere() -> Iterator[tuple[str, TakenDown]]:
    """Yield what any recipe on the search path has taken down, with the recipe's name."""
    for recipe, folder in find_recipes().items():
        yield from ((recipe, each) for each in read_ledger(folder).values())


def ledger_path(recipe: str) -> Path:
    """Return the file with what a recipe has taken down."""
    return find_recipes()[recipe] / FOLDER / LEDGER
