"""Random access to the windows of a manifest: their token ids, and where those lie."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from olmo_core.data.format import little_endian
from olmo_core.data.manifest import Manifest, Range, cumulative
from olmo_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens [start, stop) of one file, named as in the manifest, that are part of a window."""

    path: str
    start: int
    stop: int


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
        self._starts = [cumulative([r.stop - r.start for r in ranges]) for ranges in self._ranges]
        self._first = cumulative([starts[-1] // sequence_length for starts in self._starts])
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
        if self.vocab_size is not None and tokens.size and int(tokens.max()) >= self.vocab_size:
            self._refuse(tokens, instances, self.vocab_size)
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
            row, column = np.argwhere(masks > 1)[0].tolist()
            part, position = self._place(int(instances[row]), column)
            assert part.label_mask is not None
            raise InputError(
                f"{self.manifest.resolve(part.label_mask)}: byte {masks[row, column]} at "
                f"position {position}; a label mask has one bool per token, 0 or 1"
            )
        return masks.view(np.bool_)

    def pieces(self, instance: int) -> list[Piece]:
        """Return where the tokens of an instance lie, in order."""
        return [
            Piece(path=self._ranges[stream][part].path, start=start, stop=stop)
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

    def _refuse(self, tokens: np.ndarray, instances: np.ndarray, vocab_size: int) -> None:
        row, column = np.argwhere(tokens >= vocab_size)[0].tolist()
        part, position = self._place(int(instances[row]), column)
        raise InputError(
            f"{self.manifest.resolve(part.path)}: token id {tokens[row, column]} at position "
            f"{position}, but the model's vocabulary has {vocab_size} entries: another tokenizer, "
            f"or another dtype than {self.dtype.name}"
        )

    def _place(self, instance: int, column: int) -> tuple[Range, int]:
        """Return the range that holds one token of an instance, and the token's position in the
        file.
        """
        for stream, part, start, stop in self._parts(instance):
            if column < stop - start:
                return self._ranges[stream][part], start + column
            column -= stop - start
        raise IndexError(f"instance {instance}: token {column} beyond its end")
