"""Read tokens before the first step, to find ids beyond the vocabulary and files of another dtype.

Reading a batch checks every id as well; this finds mistakes before a step is spent. Data up to
`SCANNED_BYTES` is read whole (a second or two from the page cache). Larger or remote data is
sampled: a wrong dtype or tokenizer shows in any window, a few damaged bytes only when they are
read.
"""

import logging

import numpy as np

from olmo_core.config.url import is_remote
from olmo_core.data.instances import Instances
from olmo_core.data.loader import Loader
from olmo_core.errors import InputError

log = logging.getLogger("olmo")

SCANNED_BYTES, SCANNED_WINDOWS = 1 << 30, 1 << 18
_SPACED = 256  # windows of a sample, evenly spaced over all
_AT_ONCE = 256  # windows
_DISTINCT = 50  # token ids that a file holds at least before its dtype is judged


def check_tokens(loader: Loader) -> None:
    """Read all windows of small data; of large data the first of each stream and some evenly spaced
    ones.

    Raises:
        InputError: an id lies beyond the vocabulary, a file is certainly of another dtype, a label
            mask is not one, no token has a label, or something cannot be read.
    """
    data, labels, masked, ends = loader.data, 0, 0, 0
    _warn_of_narrow_ids(data)
    chosen, what = _windows(data)
    narrow = _Widths(data)
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE]
        batch = loader.read(part)
        if data.dtype.itemsize == 2:
            narrow.look_at(part, batch.input_ids)
        if batch.positions is not None:
            ends += int((batch.positions[:, 1:] == 0).sum())
        masked += int((~batch.instance_mask).sum())
        counted = np.broadcast_to(batch.instance_mask[:, None], batch.input_ids.shape)
        if batch.label_mask is not None:
            counted = counted & batch.label_mask
        labels += int(counted[:, 1:].sum())  # an instance's first token is none
    narrow.refuse_wide()
    if labels == 0:
        message = (
            f"no label to learn in {len(chosen)} of {data.count} windows: data.instance_filter "
            f"masks {masked} of them, data.label_mask_paths the rest (padded rows repeat "
            "themselves: they need data.instance_filter: null)"
        )
        if len(chosen) == data.count:
            raise InputError(message)
        log.warning(message)
    if loader.document_eos is not None and ends == 0:
        log.warning(
            "data.generate_doc_lengths: no document ends in token %d (model.eos_token_id) in %d of "
            "%d windows",
            loader.document_eos,
            len(chosen),
            data.count,
        )
    log.info(
        "checked %s: %d of %d, %d masked; %d tokens at the ends of streams fill no window",
        what,
        len(chosen),
        data.count,
        masked,
        data.manifest.tokens - data.count * data.sequence_length,
    )


def _warn_of_narrow_ids(data: Instances) -> None:
    highest = int(np.iinfo(data.dtype).max)
    if data.vocab_size and data.vocab_size - 1 > highest:
        log.warning(
            "the tokens are read as %s, with ids up to %d, and model.vocab_size is %d: is "
            "data.memmap_dtype that of the files?",
            data.dtype.name,
            highest,
            data.vocab_size,
        )


def _windows(data: Instances) -> tuple[np.ndarray, str]:
    if any(is_remote(file.path) for file in data.files.values()):
        return _spaced(data), "windows of remote files, evenly spaced"
    size_bytes = data.count * data.sequence_length * data.dtype.itemsize
    if size_bytes <= SCANNED_BYTES and data.count <= SCANNED_WINDOWS:
        return np.arange(data.count), "all windows"
    return np.union1d(_spaced(data), data.first_windows()), "windows, some of each stream"


def _spaced(data: Instances) -> np.ndarray:
    return np.unique(np.linspace(0, data.count - 1, _SPACED).astype(np.int64))


class _Widths:
    """Detect uint32 ids that are read as uint16: every second number is a high half.

    High halves do not exceed those of the vocabulary, 0 or 1. No text has such tokens in every
    second place and many different ones between them.
    """

    def __init__(self, data: Instances) -> None:
        self._data = data
        self._highest = ((data.vocab_size or 1 << 17) - 1) >> 16
        # By path: ids in the other places, or None where a window cannot be of high halves.
        self._between: dict[str, set[int] | None] = {}

    def look_at(self, windows: np.ndarray, tokens: np.ndarray) -> None:
        high = tokens[:, 1::2].max(axis=1, initial=0) <= self._highest
        for row, window in enumerate(windows.tolist()):
            path = self._data.pieces(window)[0].path
            between = self._between.setdefault(path, set())
            if not high[row]:
                self._between[path] = None
            elif between is not None and len(between) < _DISTINCT:
                between.update(np.unique(tokens[row, ::2]).tolist())

    def refuse_wide(self) -> None:
        for path, between in self._between.items():
            file = self._data.files[path]
            if file.header is None and between is not None and len(between) >= _DISTINCT:
                raise InputError(
                    f"{file.path}: every second number is 0 or 1: these are ids of uint32 read as "
                    "uint16; set data.memmap_dtype: uint32"
                )
