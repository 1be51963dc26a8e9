"""Read a checkpoint's tensors and its index (`.metadata`) without running any code in them.

Torch's own reader unpickles whatever stands there; a checkpoint from elsewhere could do anything.
"""

import pickle
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import metadata as stored
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.state_dict_loader import load

from olmo_core.checkpoint.state import MODEL, OPTIM, require_same
from olmo_core.checkpoint.unpickler import UNREADABLE, Unpickler
from olmo_core.errors import InputError


def _memory_format(kind: Any, name: Any) -> Any:
    """Return a member of torch's enum of memory formats, and of nothing else.

    It is read in place of `getattr`, by which early releases of Python 3.11 pickle such a member.
    """
    if kind is not stored._MEM_FORMAT_ENCODING:
        raise pickle.UnpicklingError(f"an attribute of {kind!r} is not read")
    return stored._MEM_FORMAT_ENCODING[name]


_STORED = (
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
)
_PLAIN: dict[str, dict[str, Any]] = {
    "builtins": {"getattr": _memory_format},
    "pathlib": {"PosixPath": PurePosixPath},  # where it was saved
    "pathlib._local": {"PosixPath": PurePosixPath},
    "torch": {"Size": torch.Size}
    | {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    "torch.serialization": {"_get_layout": torch.serialization._get_layout},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo": _StorageInfo},
    "torch.distributed.checkpoint.metadata": {name: getattr(stored, name) for name in _STORED},
}


def read_into(state: dict[str, Tensor], folder: Path) -> None:
    """Copy a checkpoint's tensors into those of `state`; all ranks call it.

    Args:
        state: See `olmo_core.checkpoint.state`; where there are no moments, none are read.
        folder: The checkpoint's `model_and_optim/`.

    Raises:
        InputError: the index cannot be read; a tensor is missing, unexpected or of another shape.
    """
    reader = IndexReader(folder)
    entries = reader.read_metadata().state_dict_metadata
    moments = any(name.startswith(OPTIM) for name in state)
    shapes = {
        name: tuple(entry.size) if isinstance(entry, stored.TensorStorageMetadata) else None
        for name, entry in entries.items()
        if moments or name.startswith(MODEL)
    }
    require_same(folder, shapes, state)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as meant
        load(state, storage_reader=reader)


class IndexReader(FileSystemReader):
    """Torch's reader of a checkpoint's folder, for folders that anybody may have written."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> stored.Metadata:
        """Return which tensors there are, and where they lie.

        Raises:
            InputError: it is torn, holds objects that only running code could make, or names
                files elsewhere.
        """
        path = Path(self.path) / ".metadata"
        try:
            index = Unpickler(path.read_bytes(), _PLAIN).load()
        except UNREADABLE as error:
            raise InputError(f"{path}: cannot be read as a plain index: {error}") from None
        if not isinstance(index, stored.Metadata):
            raise InputError(f"{path}: expected an index, found {type(index).__name__}")
        for entry in (index.storage_data or {}).values():
            if entry.relative_path in ("", ".", "..") or "/" in entry.relative_path:
                raise InputError(f"{path}: {entry.relative_path!r} is no file beside it")
        index.storage_meta = stored.StorageMeta(load_id=self.load_id)
        return index
