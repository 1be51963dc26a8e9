"""How many tokens of every document weights were trained on: whole runs, file by file."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.document_index import PLACES, places_path
from olmo_core.lineage.run import TrainingRun

_POSITIONS = 1 << 20  # of an epoch, ordered at once


@dataclass(frozen=True, kw_only=True)
class CutRange:
    """Tokens of a file that follow each other, cut into pieces of one window each."""

    edges: np.ndarray  # (n + 1,), int64: where the pieces begin in the file, and the end
    times: np.ndarray  # (n,), int64: how often each was trained on


class Coverage:
    """How often a run was trained on each window of its mix, up to a step.

    The windows of steps whose update was left out are not counted. Masked instances are: which
    they are, only their tokens say.

    Args:
        run: See `open_run`.
        up_to: The last step that counts.
        skipped: How often it has read each window: steps whose update was left out count as well.
    """

    def __init__(self, run: TrainingRun, up_to: int, *, skipped: bool = False) -> None:
        self._run = run
        times = np.zeros(run.data.count, dtype=np.uint32)
        for windows in run.windows_up_to(up_to, _POSITIONS):
            times[windows] += np.uint32(1)  # those of one epoch are distinct
        for step in () if skipped else run.log.skipped:
            if run.first_step <= step <= up_to:
                times[run.batch(step)[1]] -= np.uint32(1)
        self._times = times
        self._ranges: dict[str, list[CutRange]] = {}
        for path, cut in self._cut():
            self._ranges.setdefault(path, []).append(cut)

    @property
    def files(self) -> list[str]:
        """Return the token files of the mix, as the manifest names them."""
        return list(self._ranges)

    @property
    def tokens(self) -> int:
        """Return how many tokens the run was trained on, each as often as it was."""
        return int(self._times.sum(dtype=np.int64)) * self._run.data.sequence_length

    def of(self, file: str, edges: np.ndarray) -> np.ndarray:
        """Return how many tokens were trained on between each two edges, each as often as it was.

        Args:
            file: A token file.
            edges: Tokens of it, ascending, int64 (n + 1,): each document begins where the one
                before it ends.

        Returns:
            int64 (n,).
        """
        found = np.zeros(len(edges) - 1, dtype=np.int64)
        for cut in self._ranges.get(file, ()):
            # Summed up from the cut's begin: linear within a piece.
            summed = np.concatenate(([0], np.cumsum(np.diff(cut.edges) * cut.times)))
            places = np.clip(edges, cut.edges[0], cut.edges[-1])
            piece = np.searchsorted(cut.edges, places, side="right") - 1
            piece = np.minimum(piece, len(cut.times) - 1)
            up_to = summed[piece] + (places - cut.edges[piece]) * cut.times[piece]
            found += np.diff(up_to)
        return found

    def _cut(self) -> Iterator[tuple[str, CutRange]]:
        """Yield each range of the manifest, without the tails of streams, cut at windows."""
        length, first = self._run.data.sequence_length, 0
        for stream in self._run.data.manifest.streams:
            windows = stream.tokens // length
            place = 0  # in the join of the stream
            for part in stream.ranges:
                stop = min(place + part.stop - part.start, windows * length)
                if stop > place:
                    low, high = place // length, -(-stop // length)
                    edges = np.arange(low, high + 1, dtype=np.int64) * length
                    edges[0], edges[-1] = place, stop
                    yield (
                        part.path,
                        CutRange(
                            edges=edges - place + part.start,
                            times=self._times[first + low : first + high].astype(np.int64),
                        ),
                    )
                place += part.stop - part.start
            first += windows


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """What weights were trained on of a source."""

    source: str
    documents: int  # of which they were trained on any token
    tokens: int  # each as often as they were
    further_documents: int  # of these, those of which the weights compared with have seen nothing
    further_tokens: int  # of such documents


def count_sources(
    index: Path, trained: Sequence[Coverage], before: Sequence[Coverage] = ()
) -> list[SourceCount]:
    """Return documents and tokens by source, that some runs together were trained on.

    Args:
        index: Run folder of `documents`, of the tokens that all these runs read.
        trained: The runs.
        before: Runs of weights to compare with, whose documents are not `further` ones.
    """
    found: dict[str, np.ndarray] = {}
    for file in dict.fromkeys(file for each in trained for file in each.files):
        edges = _edges(places_path(index / PLACES, file))
        tokens = np.sum([each.of(file, edges) for each in trained], axis=0)
        earlier = np.sum([each.of(file, edges) for each in before] or [tokens * 0], axis=0)
        further = (tokens > 0) & (earlier == 0)
        counts = [(tokens > 0).sum(), tokens.sum(), further.sum(), tokens[further].sum()]
        source = file.split("/")[1]
        found[source] = found.get(source, 0) + np.array(counts, dtype=np.int64)
    return [
        SourceCount(
            source=source,
            documents=documents,
            tokens=tokens,
            further_documents=further_documents,
            further_tokens=further_tokens,
        )
        for source, counts in sorted(found.items())
        for documents, tokens, further_documents, further_tokens in [counts.tolist()]
    ]


def _edges(places: Path) -> np.ndarray:
    """Return where the documents of a token file begin, and where the last one ends."""
    parquet: Any = importlib.import_module("pyarrow.parquet")  # which has no types
    table = parquet.read_table(places, columns=["start", "end"])
    return np.concatenate((table["start"].to_numpy()[:1], table["end"].to_numpy()))
