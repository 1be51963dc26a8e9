"""The parameters that a rank holds: whole ones, or its shards of them (DTensors).

DTensor takes 1.5 s to import, so that a whole parameter is told from a shard by its own class.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def materialise(model: nn.Module, device: torch.device) -> None:
    """Allocate meta-device parameters on `device` without filling them; tied ones stay tied."""
    for parameter in model.parameters():
        if not parameter.is_meta:
            continue
        if _as_shards(parameter) is None:  # `empty_like` of a meta tensor imports sympy
            values = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        else:
            values = torch.empty_like(parameter, device=device)
        empty = nn.Parameter(values)
        torch.utils.swap_tensors(parameter, empty)


def held_rows(parameter: Tensor) -> tuple[int, Tensor]:
    """Return the first row of a parameter that this rank holds, and its rows from there on."""
    shards = _as_shards(parameter)
    if shards is None:
        return 0, parameter
    (chunk,) = shards.__create_chunk_list__()
    return chunk.offsets[0], shards.to_local()


def fill(parameter: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into a parameter, or this rank's shard of it."""
    shards = _as_shards(parameter)
    if shards is not None:
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = shards.device_mesh, shards.placements
        whole = distribute_tensor(whole, mesh, placements, src_data_rank=None)
    with torch.no_grad():
        parameter.copy_(whole)


def gather(parameter: Tensor) -> Tensor:
    """Return a whole parameter on every rank; all ranks must call this together."""
    shards = _as_shards(parameter)
    return parameter if shards is None else shards.full_tensor()


def _as_shards(parameter: Tensor) -> "DTensor | None":
    if type(parameter) in (Tensor, nn.Parameter):
        return None
    from torch.distributed.tensor import DTensor

    return parameter if isinstance(parameter, DTensor) else None
