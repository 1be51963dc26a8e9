"""Documents in files that are no asset's content: reports, caches, Dagster's storage, the trash.

Their ids are looked for in the bytes of these files. So what is packed is not found; a database
that is no file is said to be not looked into.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from assets.execution.replay import FOLDER as REPLAYS
from assets.paths import dagster_home
from assets.takedown.affected import Affected, Holds, listed, of_run
from assets.takedown.records import Record

TRASH = ".trash"  # of `olmo gc`
# Caches of a result, by its digest: what each is, and what it holds of documents.
OF_RESULTS: Mapping[Path, tuple[str, Holds]] = {
    Path("cache") / "quotes": ("the index of quotes of", "text"),
    Path("cache") / "places": ("the places of", "names"),
}
CACHES = ("cache", "results")
_CHUNK = 1 << 23  # bytes
_WORD = rb"[\w./#~-]"  # what an id does not begin behind, or end before
_LINE_END = rb"\\n"  # in JSON, an id in a sample stands before one
_BEHIND = 2  # bytes that say where an id ends


class Needles:
    """Ids to look for in files of any kind, as text and as JSON writes it."""

    def __init__(self, ids: Collection[str]) -> None:
        self._names: dict[bytes, str] = {}
        for each in ids:
            for escaped in (True, False):
                inner = json.dumps(each, ensure_ascii=escaped)[1:-1]
                self._names[inner.encode(errors="surrogatepass")] = each
            self._names[each.encode()] = each
        # An id begins with its source: what else a file holds is passed over fast.
        sources = sorted({needle.partition(b"/")[0] + b"/" for needle in self._names})
        self._begins = re.compile(rb"(?<!%s)(?:%s)" % (_WORD, b"|".join(map(re.escape, sources))))
        self._lengths = sorted({len(needle) for needle in self._names}, reverse=True)
        self._ends = re.compile(rb"(?!%s)|(?=%s)" % (_WORD, _LINE_END))

    def in_file(self, path: Path) -> set[str]:
        """Return the ids that stand in a file."""
        found: set[str] = set()
        if not self._names:
            return found
        keep = self._lengths[0] + 1 + _BEHIND  # with what stands before and behind the longest id
        with path.open("rb") as file:
            content, start, more = b"", 0, True
            while more:
                chunk = file.read(_CHUNK)
                more = bool(chunk)
                content += chunk
                found.update(self._in(content, start, len(content) - (_BEHIND if more else 0)))
                # The first byte is there for what stands behind it.
                start = 1 if len(content) > keep else start
                content = content[-keep:]
        return found

    def _in(self, content: bytes, start: int, end: int) -> Iterator[str]:
        """Yield the ids that begin at `start` or later and end at `end` or before."""
        for match in self._begins.finditer(content, start):
            at = match.start()
            for length in self._lengths:
                name = self._names.get(content[at : at + length])
                if (
                    name is not None
                    and at + length <= end
                    and self._ends.match(content, at + length)
                ):
                    yield name


def files_below(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the files below folders that are there, in order; links are not followed."""
    for folder in folders:
        yield from sorted(
            path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
        )


def elsewhere(
    records: Iterable[Record], ids: Mapping[Path, Collection[str]], root: Path
) -> Iterator[Affected]:
    """Yield what beside the content of assets holds documents, below a root and in Dagster.

    Args:
        records: All run folders.
        ids: Of the documents that must leave, by the run whose corpus has them.
        root: Of results.
    """
    for record in records:
        needles = Needles(ids.get(record.run.path, ()))
        if record.run.finished and (found := needles.in_file(record.run.result)):
            yield of_run(
                "elsewhere", record, "text", len(found), "samples in its report, result.json"
            )
    needles = Needles({each for some in ids.values() for each in some})
    for path in files_below(root / name for name in CACHES):
        if found := needles.in_file(path):
            yield _file(path, len(found), "a cache", "delete it: it is made again")
    digests = {each.content.get("digest"): each for each in records if ids.get(each.run.path)}
    for folder, (what, holds) in OF_RESULTS.items():
        for path in sorted((root / folder).glob("*")):
            if (record := digests.get(path.name)) is not None:
                said, documents = f"{what} {record.name}", len(ids[record.run.path])
                yield _file(path, documents, said, "delete it: it is made again", holds=holds)
    yield from _of_dagster(needles)
    for name, what, do in (
        (TRASH, "versions that olmo gc has taken away: not looked into", "olmo gc --delete"),
        (REPLAYS, "steps of trainings that were made again: not looked into", "delete it"),
    ):
        if any((root / name).glob("*")):
            yield _file(root / name, 0, what, do)


def _of_dagster(needles: Needles) -> Iterator[Affected]:
    """Yield files of Dagster's instance that name documents, and a database that is not a file."""
    home = dagster_home()
    for path in files_below([home]):
        if found := needles.in_file(path):
            what = "Dagster's storage: what assets have reported, with samples of their texts"
            do = "dagster run delete the runs that made them, or wipe the assets in the UI"
            yield _file(path, len(found), what, do)
    config = home / "dagster.yaml"
    named = [
        name for name in ("postgres", "mysql") if config.is_file() and name in config.read_text()
    ]
    if named:
        what = f"Dagster's database ({listed(named)}), which has such samples too: not looked into"
        yield _file(config, 0, what, "dagster run delete the runs that made them")


def _file(path: Path, documents: int, what: str, do: str, *, holds: Holds = "text") -> Affected:
    return Affected(
        group="elsewhere", place=str(path), holds=holds, documents=documents, what=what, do=do
    )
