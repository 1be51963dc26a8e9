"""Which steps of a run saw a document."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from olmo_core.checkpoint.layout import MANIFEST, list_checkpoints
from olmo_core.data.document_index import DocumentSpan
from olmo_core.data.manifest import Manifest
from olmo_core.lineage.run import TrainingRun


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One time that a step read tokens of a document."""

    step: int  # from 1
    epoch: int
    instance: int  # place in the global batch
    window: int  # number in the manifest
    rank: int | None
    start: int  # tokens [start, stop) of the document, counted from its first
    stop: int
    masked: bool  # it counts in no loss: the instance repeats itself, or no token is a label
    skipped: bool | None  # the step's update was left out; None: the step is not logged

    @property
    def tokens(self) -> int:
        """Return how many tokens of the document were read."""
        return self.stop - self.start

    @property
    def trained(self) -> bool:
        """Return whether the weights have changed by it, as far as anything says so."""
        return not self.masked and not self.skipped


@dataclass(frozen=True, kw_only=True)
class DocumentInRun:
    """What a run has seen of a document."""

    run: TrainingRun
    document: DocumentSpan
    ranges: int  # of the mix that hold tokens of it: its repetitions, where it lies in one file
    mix_tokens: int  # of it in one pass over the mix
    tail_tokens: int  # of these: in no window, as the end of their stream does not fill one
    visits: list[Visit]  # by step

    @property
    def tokens(self) -> int:
        """Return the length of the document in tokens, its EOS among them."""
        return self.document.end - self.document.start

    def trained_tokens(self, up_to: int | None = None) -> int:
        """Return how many of its tokens the run was trained on, each as often as it was.

        Args:
            up_to: Only by this step; default: by the run's end.
        """
        return sum(each.tokens for each in self.visits if each.trained and _by(each.step, up_to))

    @property
    def first_checkpoint(self) -> Path | None:
        """Return the first kept checkpoint that was trained on it; None if none was.

        Of a finished run the model of its end stands beside the last checkpoint.
        """
        first = min((each.step for each in self.visits if each.trained), default=None)
        kept = [] if first is None else list_checkpoints(self.run.folder.path)
        whole = (each for each in kept if (each.path / MANIFEST).is_file())
        return next((each.path for each in whole if each.step >= (first or 0)), None)


def steps_of_document(run: TrainingRun, document: DocumentSpan) -> DocumentInRun:
    """Return each time that a run has read tokens of a document.

    Repetitions, epochs, the tails that no window or batch holds, skipped and masked steps and the
    run's real end are counted in.

    Args:
        run: See `open_run`.
        document: From the index of the tokens that the run reads.
    """
    windows = run.data.overlapping(document.file, document.start, document.end)
    parts = {
        window: [part for part in run.parts(window) if part.holds(document)] for window in windows
    }
    visits: list[Visit] = []
    for taken in run.taken(np.asarray(windows, dtype=np.int64)):
        repeats = bool(run.masked(taken.step, np.asarray([taken.window]))[0])
        ranks = run.ranks(taken.step)
        for part in parts[taken.window]:
            start, stop = part.share(document)
            visits.append(
                Visit(
                    step=taken.step,
                    epoch=taken.epoch,
                    instance=taken.instance,
                    window=taken.window,
                    rank=taken.instance % ranks if ranks else None,
                    start=start,
                    stop=stop,
                    masked=repeats or not part.labelled(document),
                    skipped=run.log.is_skipped(taken.step),
                )
            )
    held = held_by(run.data.manifest, document)
    shares = [part.share(document) for each in parts.values() for part in each]
    return DocumentInRun(
        run=run,
        document=document,
        ranges=len(held),
        mix_tokens=sum(held),
        tail_tokens=sum(held) - sum(stop - start for start, stop in shares),
        visits=visits,
    )


def held_by(manifest: Manifest, document: DocumentSpan) -> list[int]:
    """Return how many tokens of a document each range of a mix holds that holds any."""
    lengths = (
        min(part.stop, document.end) - max(part.start, document.start)
        for stream in manifest.streams
        for part in stream.ranges
        if part.path == document.file
    )
    return [length for length in lengths if length > 0]


def _by(step: int, last: int | None) -> bool:
    return last is None or step <= last
