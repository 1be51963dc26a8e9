"""Prove that no batch of a run holds any of some documents: over all of its steps."""

import importlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.document_index import IDS, PLACES, places_path
from olmo_core.errors import InputError
from olmo_core.lineage.coverage import Coverage
from olmo_core.lineage.run import TrainingRun

_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Unwanted:
    """What no batch may hold: documents by the SHA-1 of their text, their URL or their id."""

    sha1s: Collection[bytes]
    urls: Collection[str]
    ids: Collection[str]  # of documents whose text is not known: those of published token files
    # Of documents of this very corpus, whatever text was tokenised: parts of it may be replaced.
    own_ids: Collection[str] = ()

    def names(self, row: dict[str, Any]) -> bool:
        """Return whether a row of the index is one of these documents."""
        if row["id"] in self.own_ids:
            return True
        if row["sha1"] is None:
            return row["id"] in self.ids
        return row["sha1"] in self.sha1s or row["url"] in self.urls


@dataclass(frozen=True, kw_only=True)
class Held:
    """A document that a run has read, and must not have."""

    id: str
    file: str  # token file
    tokens: int  # of it that were in batches, each as often as it was


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was looked at: all that the run has read, to the token."""

    steps: int
    instances: int  # of all batches together
    tokens: int  # in them
    documents: int  # whose tokens these are, each looked at
    held: list[Held]

    @property
    def holds(self) -> bool:
        """Return whether no batch holds any of the documents."""
        return not self.held


def prove_absence(run: TrainingRun, index: Path, unwanted: Unwanted) -> Proof:
    """Look at every document of every batch that a run has read, skipped steps' among them.

    The order gives the windows of all steps, the manifest their tokens, the index the documents
    that these are of. The tokens of these documents must add up to those of all batches: so none
    is passed over. Memory is bounded by 4 bytes per window and the documents of one token file.

    Args:
        run: See `open_run`.
        index: Run folder of `documents`, of the tokens that the run reads.
        unwanted: The documents that must not be there.

    Raises:
        InputError: the index does not cover what the run has read: it is of other tokens.
    """
    steps = run.last_step - run.first_step + 1
    read = Coverage(run, run.last_step, skipped=True)
    found = _unwanted_rows(index, unwanted)
    documents, tokens = 0, 0
    held: list[Held] = []
    for file in read.files:
        path = places_path(index / PLACES, file)
        starts, edges = _places(path)
        counts = read.of(file, edges)
        documents += int((counts > 0).sum())
        tokens += int(counts.sum())
        for name, start in found.get(file, ()):
            at = int(np.searchsorted(starts, start))
            if counts[at]:
                held.append(Held(id=name, file=file, tokens=int(counts[at])))
    instances = steps * run.batching.size
    expected = instances * run.data.sequence_length
    if not tokens == expected == read.tokens:
        raise InputError(
            f"{run.label}: {expected} tokens in its batches, {tokens} of documents in {index}; "
            "expected as many: it is the index of other tokens"
        )
    return Proof(steps=steps, instances=instances, tokens=tokens, documents=documents, held=held)


def _places(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return where the documents of a token file begin; the same with the end of the last one.

    Raises:
        InputError: there is a gap between two of them.
    """
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(path, columns=["start", "end"])
    starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
    if len(starts) and (starts[0] != 0 or np.any(starts[1:] != ends[:-1])):
        raise InputError(f"{path}: a gap between two documents; expected every token to be of one")
    return starts, np.concatenate((starts[:1], ends))


def _unwanted_rows(index: Path, unwanted: Unwanted) -> dict[str, list[tuple[str, int]]]:
    """Return the tokenised documents that must not be there: id and first token, by token file."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in _rows(index):
        if unwanted.names(row):
            found.setdefault(row["file"], []).append((row["id"], row["start"]))
    return found


def _rows(index: Path) -> Iterator[dict[str, Any]]:
    """Yield what the index says of every tokenised document."""
    parquet: Any = importlib.import_module("pyarrow.parquet")
    for path in sorted((index / IDS).glob("part-*.parquet")):
        with parquet.ParquetFile(path) as file:
            columns = ["id", "file", "start", "url", "sha1"]
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
