"""Read tokens before the first step, to find ids beyond the vocabulary and files of another dtype.

Reading a batch checks every id as well; this finds mistakes before a step is spent. Data up to
`SCANNED_BYTES` is read whole (a second or two from the page cache). Larger or remote data is
sampled: a wrong dtype or tokenizer shows in any window, a few damaged bytes only when they are
read.
"""

import logging
from collections import Counter

import numpy as np

from olmo_core.data.instances import Instances
from olmo_core.data.loader import Loader
from olmo_core.errors import InputError
from olmo_core.remote.storage import is_remote

log = logging.getLogger("olmo")

SCANNED_BYTES, SCANNED_WINDOWS = 1 << 30, 1 << 18
_SPACED = 256  # windows of a sample, evenly spaced over all
_AT_ONCE = 256  # windows


def check_tokens(loader: Loader) -> None:
    """Read all windows of small data, else the first of each stream and some evenly spaced ones.

    Raises:
        InputError: an id lies beyond the vocabulary, a file is certainly of another dtype, a label
            mask is not one, no token has a label, no document ends in the token that is to tell
            them apart, or something cannot be read.
    """
    data, labels, masked, ends = loader.data, 0, 0, 0
    highest = int(np.iinfo(data.dtype).max)
    if data.vocab_size and data.vocab_size - 1 > highest:
        log.warning(
            "the tokens are read as %s, with ids up to %d, and model.vocab_size is %d: is "
            "data.memmap_dtype that of the files?",
            data.dtype.name,
            highest,
            data.vocab_size,
        )
    chosen, what = _windows(data)
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE]
        batch = loader.read(part)
        if loader.document_eos is not None:
            ends += int((batch.input_ids == loader.document_eos).sum())
        masked += int((~batch.instance_mask).sum())
        counted = np.broadcast_to(batch.instance_mask[:, None], batch.input_ids.shape)
        if batch.label_mask is not None:
            counted = counted & batch.label_mask
        labels += int(counted[:, 1:].sum())  # an instance's first token is none
    where = f"in {len(chosen)} of {data.count} windows"
    if labels == 0:
        message = (
            f"no label to learn {where}: data.instance_filter masks {masked} of them, "
            "data.label_mask_paths the rest (padded rows repeat themselves: they need "
            "data.instance_filter: null)"
        )
        if len(chosen) == data.count:
            raise InputError(message)
        log.warning(message)
    if loader.document_eos is not None:
        _check_document_ends(data, loader.document_eos, found=ends, where=where)
    log.info(
        "checked %s: %d of %d, %d masked; %d tokens at the ends of streams fill no window",
        what,
        len(chosen),
        data.count,
        masked,
        data.manifest.tokens - data.count * data.sequence_length,
    )


def _check_document_ends(data: Instances, eos: int, *, found: int, where: str) -> None:
    """Compare the token that tells documents apart with the last token of each file.

    A token file ends with its last document. A file with a header names its EOS, which the loader
    has compared.
    """
    files = [file for file in data.files.values() if file.header is None]
    read = data.manifest.files.each(
        lambda path: data.manifest.files.read_spot(path, -data.dtype.itemsize, data.dtype.itemsize),
        (file.path for file in files),
    )
    last = {path: int(np.frombuffer(spot, data.dtype)[0]) for path, spot in read.items()}
    others = Counter(token for token in last.values() if token != eos).most_common(1)
    said = f"{others[0][1]} of {len(last)} files end in token {others[0][0]}" if others else ""
    if found == 0:
        raise InputError(
            f"data.generate_doc_lengths: no document ends in token {eos} (model.eos_token_id): it "
            f"does not occur {where}{f'; {said}: is that it?' if said else ''}"
        )
    if said:
        log.warning(
            "data.generate_doc_lengths: model.eos_token_id is %d, but %s (%s)",
            eos,
            said,
            next(path for path, token in last.items() if token == others[0][0]),
        )


def _windows(data: Instances) -> tuple[np.ndarray, str]:
    spaced = np.unique(np.linspace(0, data.count - 1, _SPACED).astype(np.int64))
    if any(is_remote(file.path) for file in data.files.values()):
        return spaced, "windows of remote files, evenly spaced"
    size_bytes = data.count * data.sequence_length * data.dtype.itemsize
    if size_bytes <= SCANNED_BYTES and data.count <= SCANNED_WINDOWS:
        return np.arange(data.count), "all windows"
    return np.union1d(spaced, data.first_windows), "windows, some of each stream"
