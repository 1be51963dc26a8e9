"""First weights of a model, by OLMo's two rules, the same for any device or number of ranks.

A weight's number depends on the seed, the parameter's name and its place alone: each block of rows
has a stream of its own of a counter-based generator (Philox). So a rank draws only its own rows.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from olmo_core.config.model import ModelConfig
from olmo_core.model.transformer import Transformer

_MITCHELL_CUTOFF = 3.0  # standard deviations
_BLOCK = 1 << 14  # weights of a stream, about: to begin one takes as long as drawing a thousand

Held = Callable[[nn.Parameter], tuple[int, Tensor]]


def all_rows(parameter: nn.Parameter) -> tuple[int, Tensor]:
    """Say that the whole parameter is held here: its first row is 0."""
    return 0, parameter


def initialise(model: Transformer, seed: int, held: Held = all_rows) -> None:
    """Fill every weight from `seed`.

    `normal`: all matrices N(0, init_std), truncated at init_cutoff_factor deviations if given.
    `mitchell`: a truncated normal whose deviation falls with the width, and for the two
    projections back into the stream with the depth too. Norm weights are 1.

    Args:
        model: On any device.
        seed: Of the run.
        held: Returns the first row of a parameter that is held here, and its rows from there on.
    """
    config = model.config
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            first, rows = held(parameter)
            if parameter.ndim == 1:
                rows.fill_(1.0)
                continue
            if config.init_fn == "normal":
                std, cutoff = config.init_std, config.init_cutoff_factor
            else:
                std, cutoff = mitchell_std(config, name), _MITCHELL_CUTOFF
            key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
            _fill(rows, first, np.frombuffer(key, dtype="<u8"), std, cutoff)


def mitchell_std(config: ModelConfig, name: str) -> float:
    """Return the standard deviation of the matrix `name` under `mitchell`."""
    if ".w_out." in name or ".w2." in name:
        layer = int(name.split(".")[1])
        width = config.d_model if ".w_out." in name else config.feed_forward_size
        return (2 * width * (layer + 1)) ** -0.5
    return config.d_model**-0.5


def _fill(rows: Tensor, first: int, key: np.ndarray, std: float, cutoff: float | None) -> None:
    """Fill rows `first` and following of a matrix, block by block."""
    count, width = rows.shape
    size = max(1, _BLOCK // width)  # rows of a block
    for block in range(first // size, -(-(first + count) // size)):
        weights = torch.from_numpy(_block(key, block, size * width, cutoff)).view(size, width)
        start, stop = max(first, block * size), min(first + count, (block + 1) * size)
        own = weights[start - block * size : stop - block * size] * std
        rows[start - first : stop - first].copy_(own)


def _block(key: np.ndarray, block: int, count: int, cutoff: float | None) -> np.ndarray:
    """Return the standard normal numbers of one block; those beyond the cutoff are drawn again."""
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, block, 0]))
    numbers = generator.standard_normal(count, dtype=np.float32)
    if cutoff is not None:
        while len(outside := np.flatnonzero(np.abs(numbers) > cutoff)):
            numbers[outside] = generator.standard_normal(len(outside), dtype=np.float32)
    return numbers
