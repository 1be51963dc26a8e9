"""Random access to the windows of a manifest: their token ids, and where those lie."""

import bisect
from collections.abc import Iterator, Sequence

import numpy as np

from olmo_core.data.format import little_endian
from olmo_core.data.manifest import Manifest, Range
from olmo_core.errors import InputError


class Instances:
    """The windows of all streams, numbered from 0 in the manifest's order.

    Opening checks every file's size and header; token ids are checked when they are read.

    Args:
        manifest: What to read.
        sequence_length: Tokens per window; a stream's shorter tail is dropped.
        vocab_size: Entries of the model's vocabulary; an id at or beyond it is an error.

    Raises:
        InputError: a file does not fit, or there is not a single window.
    """

    def __init__(
        self, manifest: Manifest, *, sequence_length: int, vocab_size: int | None = None
    ) -> None:
        if sequence_length < 1:
            raise ValueError(f"sequence_length {sequence_length}: must be at least 1")
        self.files = manifest.open_files(vocab_size=vocab_size)
        for file in self.files.values():
            if file.header and file.header.row_tokens not in (None, sequence_length):
                raise InputError(
                    f"{file.path}: made of rows of {file.header.row_tokens} tokens, but "
                    f"model.max_sequence_length is {sequence_length}"
                )
        self.manifest = manifest
        self.sequence_length = sequence_length
        self.vocab_size = vocab_size
        self.dtype = little_endian(manifest.dtype)
        self._reader = manifest.files
        self._ranges = [stream.ranges for stream in manifest.streams]
        # Token offsets in the join where each range of a stream starts; windows before a stream.
        self._starts = [_cumulative([r.stop - r.start for r in ranges]) for ranges in self._ranges]
        self._first = _cumulative([starts[-1] // sequence_length for starts in self._starts])
        self.count = self._first[-1]
        if self.count == 0:
            raise InputError(
                f"{manifest.streams[0].name}{' …' if len(manifest.streams) > 1 else ''}: "
                f"{manifest.tokens} tokens in all, and no file or stream has the {sequence_length} "
                "of one window (model.max_sequence_length)"
            )
        self._places = [[manifest.resolve(r.path) for r in ranges] for ranges in self._ranges]
        self.has_label_masks = any(r.label_mask for ranges in self._ranges for r in ranges)

    def read(self, instances: np.ndarray) -> np.ndarray:
        """Return the token ids of these instances, shape (b, T), in the files' dtype.

        Raises:
            InputError: a file was truncated, or an id lies beyond the vocabulary.
        """
        tokens = np.empty((len(instances), self.sequence_length), dtype=self.dtype)
        buffer = tokens.reshape(-1).view(np.uint8).data
        itemsize = self.dtype.itemsize
        self._reader.read_all(
            (
                self._places[stream][part],
                start * itemsize,
                buffer[done * itemsize : (done + stop - start) * itemsize],
            )
            for stream, part, start, stop, done in self._laid_out(instances)
        )
        limit = self.vocab_size
        if limit is not None and tokens.size and int(tokens.max()) >= limit:
            token, part, position = self._first_where(tokens >= limit, tokens, instances)
            raise InputError(
                f"{self.manifest.resolve(part.path)}: token id {token} at position {position}, but "
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
        buffer = masks.reshape(-1).data
        self._reader.read_all(
            (self.manifest.resolve(mask), start, buffer[done : done + stop - start])
            for stream, part, start, stop, done in self._laid_out(instances)
            if (mask := self._ranges[stream][part].label_mask) is not None
        )
        if masks.max(initial=0) > 1:
            byte, part, position = self._first_where(masks > 1, masks, instances)
            raise InputError(
                f"{self.manifest.resolve(str(part.label_mask))}: byte {byte} at position "
                f"{position}; a label mask has one bool per token, 0 or 1"
            )
        return masks.view(np.bool_)

    def pieces(self, instance: int) -> list[Range]:
        """Return where the tokens of an instance lie, in order; paths are the manifest's."""
        return [
            Range(path=self._ranges[stream][part].path, start=start, stop=stop)
            for stream, part, start, stop in self._parts(instance)
        ]

    def overlapping(self, path: str, start: int, stop: int) -> list[int]:
        """Return the instances that hold any of the tokens [start, stop) of a file, ascending."""
        found: set[int] = set()
        for stream, ranges in enumerate(self._ranges):
            base = self._first[stream]
            final = self._first[stream + 1] - base - 1  # beyond it lies the tail
            for part, place in zip(ranges, self._starts[stream], strict=False):
                low, high = max(start, part.start), min(stop, part.stop)
                if part.path != path or low >= high:
                    continue
                first = (place + low - part.start) // self.sequence_length
                last = (place + high - 1 - part.start) // self.sequence_length
                found.update(range(base + first, base + min(last, final) + 1))
        return sorted(found)

    def first_windows(self) -> np.ndarray:
        """Return the first window of each stream that has one, int64, ascending."""
        return np.unique(self._first)[:-1]

    def _parts(self, instance: int) -> list[tuple[int, int, int, int]]:
        """Return (stream, range, start, stop) of a window, the latter two as tokens of the file."""
        if not 0 <= instance < self.count:
            raise IndexError(f"instance {instance} of {self.count}")
        stream = bisect.bisect_right(self._first, instance) - 1
        starts, ranges = self._starts[stream], self._ranges[stream]
        place = (instance - self._first[stream]) * self.sequence_length
        end = place + self.sequence_length
        part = bisect.bisect_right(starts, place) - 1
        found: list[tuple[int, int, int, int]] = []
        while place < end:
            stop = min(end, starts[part + 1])
            shift = ranges[part].start - starts[part]
            found.append((stream, part, place + shift, stop + shift))
            place = stop
            part += 1
        return found

    def _laid_out(self, instances: np.ndarray) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield `_parts` of these instances, and the number of tokens before each in the batch."""
        done = 0
        for instance in instances.tolist():
            for stream, part, start, stop in self._parts(instance):
                yield stream, part, start, stop, done
                done += stop - start

    def _first_where(
        self, bad: np.ndarray, values: np.ndarray, instances: np.ndarray
    ) -> tuple[int, Range, int]:
        """Return the first bad value of a batch, its range, and its position in the file."""
        row, column = np.argwhere(bad)[0].tolist()
        ahead = column
        for stream, part, start, stop in self._parts(int(instances[row])):
            if ahead < stop - start:
                return int(values[row, column]), self._ranges[stream][part], start + ahead
            ahead -= stop - start
        raise IndexError(f"instance {instances[row]}: token {column} beyond its end")


def _cumulative(lengths: Sequence[int]) -> list[int]:
    """Return where parts laid end to end start, and where the last one ends."""
    return [0, *np.cumsum(np.asarray(lengths, dtype=np.int64)).tolist()]
