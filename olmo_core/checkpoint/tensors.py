"""Tensors in files of others, opened without running any of their code and read one at a time."""

import base64
import io
import pickle
from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from olmo_core.checkpoint.tensor_file import TensorFile
from olmo_core.errors import InputError

Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file: its shape now, its values when asked."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def open_safetensors(path: Path) -> dict[str, Stored]:
    """Return the tensors of a safetensors file.

    Raises:
        InputError: it is missing, truncated, or not such a file.
    """

    def read(name: str) -> Tensor:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    tensors = TensorFile(path).tensors
    return {name: Stored(spec.shape, partial(read, name)) for name, spec in tensors.items()}


def open_torch(path: Path) -> Any:
    """Return what `torch.save` wrote, tensors mapped from the file, by `weights_only`.

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
    """Return nested mappings as one of key tuples: OLMo's own way to write them to safetensors."""
    if not isinstance(tree, dict):
        return {key: tree}
    flat: dict[Key, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, (*key, name))
    return flat


def open_olmo_safetensors(path: Path, *, only: Container[str] | None = None) -> dict[Key, Any]:
    """Read OLMo's safetensors: key tuples in base64 of a pickle, what is no tensor pickled too.

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
            key, is_pickled = Unpickler(base64.urlsafe_b64decode(name)).load()
            if only is None or key[0] in only:
                found[key] = Unpickler(stored.read().numpy()).load() if is_pickled else stored
        except (ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{path}: {name[:60]!r}: {error}") from error
    return found


class Unpickler(pickle.Unpickler):
    """Read numbers, texts and their collections, and what is `known` by module and name.

    Nothing else is looked up, so no code of a file's choice is run.
    """

    def __init__(self, content: Any, known: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__(io.BytesIO(content))
        self._known = known or {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return what is known by this name."""
        try:
            return self._known[module_name][global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"an object of {module_name}.{global_name} is not read"
            ) from None


def _harmless() -> list[Any]:
    """Return what OLMo's trainer state holds beside numbers: paths, and numpy's random state."""
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
