"""How long ranks wait for each other over NCCL before they fail; gloo's collectives keep their own.

Data that are fetched may take longer than a step's limit: 11 minutes, where a store asks for every
pause that `remote.storage` grants it. The attempt then ends, and is resumed.
"""

from datetime import timedelta

import torch
from torch.distributed import distributed_c10d

# Where a rank may compile, connect, write or send; and in a step.
PATIENCE = timedelta(minutes=30)
STEP_PATIENCE = timedelta(minutes=5)


def set_patience(device: torch.device, limit: timedelta) -> None:
    """Let NCCL's collectives on the device that begin from now on fail after `limit`."""
    if device.type != "cuda":
        return
    for group in distributed_c10d._world.pg_map:  # pyright: ignore
        backend = group._get_backend(device)  # of groups of gloo alone: gloo
        if backend.name() == "nccl":
            backend._set_default_timeout(limit)
