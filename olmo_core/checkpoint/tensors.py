"""Tensors in files of others, opened without running any of their code and read one at a time."""

import base64
import io
import pickle
from collections.abc import Container, Hashable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from olmo_core.checkpoint.source import Stored
from olmo_core.errors import InputError

Key = tuple[Hashable, ...]


def open_safetensors(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is truncated, or not such a file.
    """
    path.open("rb").close()  # safetensors says of each file that it cannot open: no such file
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file: {error}") from error

    def read(name: str) -> Tensor:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    return {name: Stored(shapes[name], lambda name=name: read(name)) for name in names}


def open_torch(path: Path) -> Any:
    """What `torch.save` wrote, tensors mapped from the file, by `weights_only`.

    Raises:
        InputError: it is truncated, or holds objects that only running code could make.
    """
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as plain tensors: {reason}") from error


def flatten(tree: Any, key: Key = ()) -> dict[Key, Any]:
    """Nested mappings as one of key tuples; OLMo's own way of writing them to safetensors."""
    if not isinstance(tree, dict):
        return {key: tree}
    flat: dict[Key, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, (*key, name))
    return flat


def open_olmo_safetensors(path: Path, *, only: Container[str] | None = None) -> dict[Key, Any]:
    """OLMo's safetensors files: key tuples in base64 of a pickle, what is no tensor pickled too.

    Args:
        path: The file.
        only: The outermost keys that are wanted; None: all.

    Returns:
        `Stored` tensors and plain values by their key tuples.

    Raises:
        InputError: it is truncated, no such file, or holds objects that only running code could
            make.
    """
    found: dict[Key, Any] = {}
    for name, stored in open_safetensors(path).items():
        try:
            if name.startswith("transformer."):  # by its plain name
                found[(name,)] = stored
                continue
            key, is_pickled = _unpickled(base64.urlsafe_b64decode(name))
            if only is None or key[0] in only:
                found[key] = _unpickled(bytes(stored.read().numpy())) if is_pickled else stored
        except (ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{path}: {name[:60]!r}: {error}") from error
    return found


class _Plain(pickle.Unpickler):
    """Numbers, texts and their collections; no class is looked up, so no code is run."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"an object of {module_name}.{global_name} is not read")


def _unpickled(content: bytes) -> Any:
    return _Plain(io.BytesIO(content)).load()


def _harmless() -> list[Any]:
    """What OLMo's trainer state holds beside numbers: paths, and numpy's random state."""
    import pathlib

    import numpy as np

    rebuild = np.zeros(1).__reduce__()[0]
    return [
        (pathlib.PosixPath, "pathlib.PosixPath"),
        (pathlib.PosixPath, "pathlib._local.PosixPath"),
        (rebuild, "numpy.core.multiarray._reconstruct"),  # numpy 1
        (rebuild, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.uint32)),
    ]
