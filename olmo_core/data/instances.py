"""Random access to the windows of a manifest: their token ids, and where those lie."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

from olmo_core.data.format import little_endian
from olmo_core.data.manifest import Manifest, Range
from olmo_core.errors import InputError


@dataclass(eq=False)
class Instances:
    """The windows of all streams, numbered from 0 in the manifest's order.

    Opening checks every file's size and header; token ids are checked when they are read.

    Raises:
        InputError: a file does not fit, or there is not a single window.
    """

    manifest: Manifest
    _: KW_ONLY
    sequence_length: int  # tokens of a window; a stream's shorter tail is dropped
    vocab_size: int | None = None  # of the model; an id at or beyond it is an error

    def __post_init__(self) -> None:
        manifest, sequence_length = self.manifest, self.sequence_length
        self.files = manifest.open_files(vocab_size=self.vocab_size)
        for file in self.files.values():
            if file.header and file.header.row_tokens not in (None, sequence_length):
                raise InputError(
                    f"{file.path}: made of rows of {file.header.row_tokens} tokens, but "
                    f"model.max_sequence_length is {sequence_length}"
                )
        self.dtype = little_endian(manifest.dtype)
        # Without the tails all ranges make one join: a window is its place there, cut to length.
        self._ranges: list[Range] = []
        self._starts = [0]  # of each range in the join, and its end
        self.first_windows: list[int] = []  # of each stream that has one
        for stream in manifest.streams:
            left = stream.tokens // sequence_length * sequence_length
            if left:
                self.first_windows.append(self._starts[-1] // sequence_length)
            for part in stream.ranges:
                kept = min(part.stop - part.start, left)
                if kept:
                    self._ranges.append(replace(part, stop=part.start + kept))
                    self._starts.append(self._starts[-1] + kept)
                left -= kept
        self.count = self._starts[-1] // sequence_length
        if self.count == 0:
            raise InputError(
                f"{manifest.streams[0].name}{' …' if len(manifest.streams) > 1 else ''}: "
                f"{manifest.tokens} tokens in all, and no file or stream has the {sequence_length} "
                "of one window (model.max_sequence_length)"
            )
        self._places = [manifest.resolve(part.path) for part in self._ranges]
        self._masks = [
            part.label_mask and manifest.resolve(part.label_mask) for part in self._ranges
        ]
        self.has_label_masks = any(self._masks)

    def read(self, instances: np.ndarray) -> np.ndarray:
        """Return the token ids of these instances, shape (b, T), in the files' dtype.

        Raises:
            InputError: a file was truncated, or an id lies beyond the vocabulary.
        """
        tokens = np.empty((len(instances), self.sequence_length), dtype=self.dtype)
        self._fill(tokens, instances, self._places)
        limit = self.vocab_size
        if limit is not None and tokens.size and int(tokens.max()) >= limit:
            token, part, position = self._first_where(tokens >= limit, tokens, instances)
            raise InputError(
                f"{self._places[part]}: token id {token} at position {position}, but "
                f"the model's vocabulary has {limit} entries: another tokenizer, or another dtype "
                f"than {self.dtype.name}"
            )
        return tokens

    def read_label_masks(self, instances: np.ndarray) -> np.ndarray:
        """Return which tokens are labels, bool (b, T); true where a file has no mask.

        Raises:
            InputError: a file was truncated, or holds something other than bools.
        """
        masks = np.ones((len(instances), self.sequence_length), dtype=np.uint8)
        self._fill(masks, instances, self._masks)
        if masks.max(initial=0) > 1:
            byte, part, position = self._first_where(masks > 1, masks, instances)
            raise InputError(
                f"{self._masks[part]}: byte {byte} at position {position}; a label mask has one "
                "bool per token, 0 or 1"
            )
        return masks.view(np.bool_)

    def pieces(self, instance: int) -> list[Range]:
        """Return where the tokens of an instance lie, in order; paths are the manifest's."""
        return [
            Range(path=self._ranges[part].path, start=start, stop=stop)
            for part, start, stop in self._parts(instance)
        ]

    def overlapping(self, path: str, start: int, stop: int) -> list[int]:
        """Return the instances that hold any of the tokens [start, stop) of a file, ascending."""
        found: set[int] = set()
        for part, place in zip(self._ranges, self._starts, strict=False):
            low, high = max(start, part.start), min(stop, part.stop)
            if part.path == path and low < high:
                first = (place + low - part.start) // self.sequence_length
                last = (place + high - 1 - part.start) // self.sequence_length
                found.update(range(first, last + 1))
        return sorted(found)

    def _parts(self, instance: int) -> Iterator[tuple[int, int, int]]:
        """Yield (range, start, stop) of a window, the latter two as tokens of the file."""
        if not 0 <= instance < self.count:
            raise IndexError(f"instance {instance} of {self.count}")
        place, end = (number * self.sequence_length for number in (instance, instance + 1))
        part = bisect.bisect_right(self._starts, place) - 1
        while place < end:
            stop = min(end, self._starts[part + 1])
            shift = self._ranges[part].start - self._starts[part]
            yield part, place + shift, stop + shift
            place, part = stop, part + 1

    def _fill(self, rows: np.ndarray, instances: np.ndarray, places: Sequence[str | None]) -> None:
        """Read into the rows of a batch from a file per range; None: they stay as they are."""
        buffer, size = rows.reshape(-1).view(np.uint8).data, rows.itemsize
        self.manifest.files.read_all(
            (place, start * size, buffer[done * size : (done + stop - start) * size])
            for part, start, stop, done in self._laid_out(instances)
            if (place := places[part]) is not None
        )

    def _laid_out(self, instances: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """Yield `_parts` of these instances, and the number of tokens before each in the batch."""
        done = 0
        for instance in instances.tolist():
            for part, start, stop in self._parts(instance):
                yield part, start, stop, done
                done += stop - start

    def _first_where(
        self, bad: np.ndarray, values: np.ndarray, instances: np.ndarray
    ) -> tuple[int, int, int]:
        """Return the first bad value of a batch, its range's number, its position in the file."""
        at = int(bad.argmax())  # in the batch, row after row
        part, start, _, done = [laid for laid in self._laid_out(instances) if laid[3] <= at][-1]
        return int(values.flat[at]), part, start + at - done
