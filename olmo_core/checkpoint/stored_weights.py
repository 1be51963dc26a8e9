"""The weights of a checkpoint, one tensor after another, without a model to put them into."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint import metadata as stored
from torch.distributed.checkpoint.state_dict_loader import load

from olmo_core.checkpoint.index import IndexReader
from olmo_core.checkpoint.state import MODEL

Read = Callable[[], NDArray[np.float64]]


def stored_weights(folder: Path) -> dict[str, tuple[str, tuple[int, ...], Read]]:
    """Return dtype and shape of each tensor of the model, and what reads its values, in f64.

    Names are those of `model.safetensors`. Of tensors that several ranks have saved the parts are
    joined.

    Args:
        folder: The checkpoint's `model_and_optim/`.

    Raises:
        InputError: the index cannot be read.
    """
    entries = IndexReader(folder).read_metadata().state_dict_metadata
    return {
        name.removeprefix(MODEL): (
            str(entry.properties.dtype).removeprefix("torch."),
            tuple(entry.size),
            partial(_read, folder, name, entry),
        )
        for name, entry in entries.items()
        if name.startswith(MODEL) and isinstance(entry, stored.TensorStorageMetadata)
    }


def _read(folder: Path, name: str, entry: stored.TensorStorageMetadata) -> NDArray[np.float64]:
    tensor = torch.empty(entry.size, dtype=entry.properties.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as meant
        load({name: tensor}, storage_reader=IndexReader(folder), no_dist=True)
    return tensor.to(torch.float64).reshape(-1).numpy()
