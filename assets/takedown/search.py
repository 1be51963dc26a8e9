"""Which documents of a corpus are asked for, and their near copies: all that `raw` has read.

The texts themselves are searched, not an index: what a rule has dropped or what is held out would
come back once the copy that it lost to is excluded.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assets.takedown.names import Name, name_of
from assets.takedown.records import Record
from assets.takedown.scan import Look, Sighting, scan
from olmo_core.corpus.document import EXCLUDED_FOLDER, excluded_shards, shards
from olmo_core.corpus.duplicates.columns import Array, as_array, read_batches
from olmo_core.corpus.duplicates.earlier import EarlierCorpora
from olmo_core.corpus.duplicates.keys import LINE_BITS, place
from olmo_core.corpus.duplicates.shingles import jaccard
from olmo_core.errors import ConfigError, InputError

_BATCH_ROWS = 1 << 20
_SHA1 = re.compile("[0-9a-fA-F]{40}")

# Why a document must leave; all but a near copy may have pieces and near copies that leave with it.
ASKED, SAME_TEXT, PIECE, COPY = "asked for", "same text", "piece of its text", "near copy"

# What names a document (id, URL, SHA-1 of its text) -> what was asked for, and why it leaves.
Wanted = Mapping[str, tuple[str, str]]
Key = tuple[str, int]  # a document's file in the run folder of `raw`, and its line


@dataclass(frozen=True, kw_only=True)
class Target:
    """A document of a corpus that must leave."""

    raw: Path  # run folder
    src: str  # its file there, and the line in it; of an earlier corpus the file's whole path
    line: int
    id: str
    source: str
    sha1: str  # of its text in UTF-8, in hexadecimal digits
    url: str | None
    file: str  # that it was read from, as `metadata.file` has it
    why: str
    of: str  # what was asked for, by which it has come in
    cluster: int | None = None  # of a near copy: the place of its cluster's first document
    similarity: float | None = None  # of its runs of words to those of the document asked for

    @property
    def name(self) -> Name:
        """Return its id, taken apart."""
        return name_of(self.id)

    @property
    def excluded(self) -> bool:
        """Return whether the corpus has left it out already: a list of its names it."""
        return self.src.startswith(f"{EXCLUDED_FOLDER}/")

    @property
    def earlier(self) -> bool:
        """Return whether it stands in an earlier corpus, whose files lie elsewhere."""
        return self.src.startswith("/")


@dataclass(kw_only=True)
class Corpus:
    """A run of `raw`, the near copies that any run has found in it, and what must leave it."""

    raw: Record
    near: Sequence[Record]  # runs of `near_duplicates`
    targets: dict[Key, Target] = field(default_factory=dict[Key, Target])
    matched: set[str] = field(default_factory=set[str])  # of what is wanted
    # Runs of `near` that have compared with files which are not as they were: not looked into.
    changed: list[Record] = field(default_factory=list[Record])
    # What of `targets` stands in a cluster, by the run of `near` that says so.
    clustered: dict[Path, set[Key]] = field(default_factory=dict[Path, set[Key]])
    _earlier: dict[Path, list[Path]] = field(default_factory=dict[Path, list[Path]])  # by `near`
    _runs_of_words: dict[Key, Array] = field(default_factory=dict[Key, Array])

    def __post_init__(self) -> None:
        for near in self.near:
            try:
                corpora = EarlierCorpora.of(near.config.get("earlier", ()))
                corpora.require_record(near.run.path)
                self._earlier[near.run.path] = corpora.files
            except (ConfigError, InputError):
                self.changed.append(near)

    def search(self, wanted: Wanted) -> bool:
        """Look for what is wanted, with all near copies; return whether anything more was found."""
        before, found = self._found(), (-1, -1)
        while found != self._found():  # what is found may have pieces and copies of its own
            found = self._found()
            self._pass(wanted)
        return self._found() != before

    def _found(self) -> tuple[int, int]:
        """Return how many targets there are, and how many of them are near copies alone."""
        return len(self.targets), sum(target.why == COPY for target in self.targets.values())

    def _pass(self, wanted: Wanted) -> None:
        """Read all documents once."""
        texts = {
            (target.source, target.file, target.name.text): target.of
            for target in self.targets.values()
            if target.name.piece and target.why != COPY
        }
        copies = self._copies()
        for seen in scan([*self._looks(frozenset(wanted), frozenset(texts), copies)]):
            self._take(seen, wanted, texts, copies)

    def _looks(
        self, names: frozenset[str], texts: frozenset[tuple[str, str, str]], copies: Collection[Key]
    ) -> Iterator[Look]:
        """Yield each file to read: the corpus's own, then those of earlier ones."""
        raw = self.raw.run.path
        own = [*excluded_shards(raw), *shards(raw / "documents")]
        files = {path: path.relative_to(raw).as_posix() for path in own}
        files |= {path: str(path) for some in self._earlier.values() for path in some}
        lines: dict[str, set[int]] = {}
        for src, line in copies:
            lines.setdefault(src, set()).add(line)
        for path, src in files.items():
            yield Look(
                path=path,
                src=src,
                earlier=src.startswith("/"),
                names=names,
                texts=texts,
                lines=frozenset(lines.get(src, ())),
            )

    def _take(
        self,
        seen: Sighting,
        wanted: Wanted,
        texts: Mapping[tuple[str, str, str], str],
        copies: Mapping[Key, tuple[int, list[Key]]],
    ) -> None:
        """Take a document among the targets."""
        key, name = (seen.src, seen.line), name_of(seen.id)
        self.matched.update(seen.by)
        cluster, similarity = None, None
        if seen.by:
            of, why = min((wanted[each] for each in seen.by), key=lambda found: found[1] == COPY)
        elif name.piece and (seen.source, seen.file, name.text) in texts:
            of, why = texts[seen.source, seen.file, name.text], PIECE
        else:
            cluster, like = copies[key]
            pairs = ((jaccard(seen.runs, self._runs_of_words[other]), other) for other in like)
            (similarity, first), why = max(pairs), COPY
            of = self.targets[first].of
        before = self.targets.get(key)
        if before is not None and (before.why != COPY or why == COPY):
            return
        if why != COPY:
            self._runs_of_words[key] = seen.runs
        self.targets[key] = Target(
            raw=self.raw.run.path,
            src=seen.src,
            line=seen.line,
            id=seen.id,
            source=seen.source,
            sha1=seen.sha1,
            url=seen.url,
            file=seen.file,
            why=why,
            of=of,
            cluster=cluster,
            similarity=similarity,
        )

    def _copies(self) -> dict[Key, tuple[int, list[Key]]]:
        """Return what stands in the clusters of targets, each with its cluster and those targets.

        Near copies of near copies stand in the same cluster.
        """
        known = {key for key, target in self.targets.items() if target.why != COPY}
        found: dict[Key, tuple[int, list[Key]]] = {}
        for near in self.near:
            if near.run.path not in self._earlier:
                continue  # places in it are those of other files
            clusters = self._clusters(near, known)
            self.clustered[near.run.path] = {key for some in clusters.values() for key in some}
            for cluster, members in clusters.items():
                firsts = [key for key in members if key in known]
                for key in members:
                    if key not in known:
                        found.setdefault(key, (cluster, firsts))
        return found

    def _clusters(self, near: Record, known: Collection[Key]) -> dict[int, list[Key]]:
        """Return the documents of each cluster that holds any of the known ones."""
        raw = self.raw.run.path
        first = [path.relative_to(raw).as_posix() for path in excluded_shards(raw)]
        own = [path.relative_to(raw).as_posix() for path in shards(raw / "documents")]
        files = [*first, *map(str, self._earlier[near.run.path]), *own]
        numbers = {name: number for number, name in enumerate(files)}
        places = {place(numbers[src], line) for src, line in known if src in numbers}
        path = near.run.path / "clusters.parquet"
        chosen = np.array(sorted(places), dtype=np.uint64)
        clusters: set[int] = set()
        for rows in _rows(path):
            clusters.update(rows["cluster"][np.isin(rows["place"], chosen)].tolist())
        members: dict[int, list[Key]] = {}
        some = np.array(sorted(clusters), dtype=np.uint64)
        for rows in _rows(path):
            within = np.isin(rows["cluster"], some)
            ats: list[int] = rows["place"][within].tolist()
            for at, cluster in zip(ats, rows["cluster"][within].tolist(), strict=True):
                number, line = divmod(at, 1 << LINE_BITS)
                members.setdefault(cluster, []).append((files[number], line))
        return members


def _rows(path: Path) -> Iterator[dict[str, Array]]:
    for batch in read_batches([path], _BATCH_ROWS, columns=["place", "cluster"]):
        columns: Any = batch
        yield {
            name: as_array(columns.column(name)).astype(np.uint64) for name in ("place", "cluster")
        }


def corpora(records: Mapping[Path, Record]) -> list[Corpus]:
    """Return each corpus of text that is there, once where several runs hold the same bytes."""
    found: dict[Path, Corpus] = {}
    for record in records.values():
        if record.asset == "raw" and record.run.finished:
            near = [
                each
                for each in records.values()
                if each.asset == "near_duplicates"
                and each.run.finished
                and record.run.path in each.inputs.values()
            ]
            found[record.run.path] = Corpus(raw=record, near=near)
    return list(found.values())


def search(found: Sequence[Corpus], asked: Collection[str]) -> set[str]:
    """Search corpora until none has anything more; return what of that which is asked for is there.

    A text that leaves one corpus is looked for in all, under whatever id.
    """
    small = {each: each.lower() if _SHA1.fullmatch(each) else each for each in asked}
    wanted = {name: (each, ASKED) for each in asked for name in (each, small[each])}
    again = True
    while again:
        again = False
        for corpus in found:
            again |= corpus.search(wanted)
            for target in corpus.targets.values():
                why = COPY if target.why == COPY else SAME_TEXT
                wanted.setdefault(target.sha1, (target.of, why))
    matched = {each for corpus in found for each in corpus.matched}
    return {each for each in asked if each in matched or small[each] in matched}
