"""The ranks of a run and their devices, derived from the environment here and nowhere else."""

import atexit
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import distributed as dist
from torch.distributed import distributed_c10d

from olmo_core.errors import ConfigError, Diverged, Stopped
from olmo_core.parallel.patience import PATIENCE

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
# How many tasks Slurm's srun or an MPI started: without torchrun each would train on its own.
_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True, kw_only=True)
class World:
    """One process among `size` ranks."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1  # ranks of this node
    device: torch.device

    @property
    def first(self) -> bool:
        """Return whether this process owns the run folder."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Return the number of machines that the ranks run on."""
        return self.size // self.local_size

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: object) -> list[object]:
        """Return every rank's value, ordered by rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[object] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sum_(self, tensor: torch.Tensor) -> None:
        """Sum a tensor over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)


def read_world(environment: Mapping[str, str]) -> World:
    """Return the world that torchrun's variables describe; a single process without them.

    Raises:
        ConfigError: some of the variables are missing, or they contradict each other.
    """
    given = {name: environment[name] for name in _VARIABLES if name in environment}
    if not given:
        for name in _TASKS:
            if environment.get(name, "1") != "1":
                raise ConfigError(
                    f"environment: {name} is {environment[name]}, but {_VARIABLES[0]} is not set: "
                    "start one torchrun per node, and let it start the ranks"
                )
        return World(device=_device(0))
    if len(given) < len(_VARIABLES):
        missing = ", ".join(name for name in _VARIABLES if name not in given)
        raise ConfigError(f"environment: {', '.join(given)} set, but not {missing}; use torchrun")
    try:
        rank, size, local_rank, local_size = (int(given[name]) for name in _VARIABLES)
    except ValueError:
        raise ConfigError(f"environment: not all whole numbers: {given}") from None
    # a node's ranks are consecutive, and nodes have equally many: a mesh over nodes counts on it
    even = local_size > 0 and size % local_size == 0 and rank % local_size == local_rank
    if not (even and 0 <= rank < size):
        raise ConfigError(f"environment: inconsistent ranks: {given}")
    for name in _ADDRESS:
        if size > 1 and name not in environment:
            raise ConfigError(f"environment: {size} ranks, but no {name}; use torchrun")
    device = _device(local_rank)
    return World(rank=rank, size=size, local_rank=local_rank, local_size=local_size, device=device)


@contextlib.contextmanager
def joined(world: World) -> Iterator[None]:
    """Join the world's process group for the length of a block; a single process needs none.

    A rank that leaves by an exception waits for no other; they see it go after its message is out.
    """
    if world.size == 1:
        yield
        return
    backend = "gloo"
    if world.device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(world.device)
    dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=PATIENCE)
    try:
        yield
    except (Stopped, Diverged):  # all ranks leave together
        dist.destroy_process_group()
        raise
    except BaseException:  # for gloo too, whatever the function's own docstring says
        atexit.register(distributed_c10d._abort_process_group)  # pyright: ignore
        # Before that: the SIGTERM that the others' end brings must not hide this rank's exit code.
        atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)
        raise
    dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"environment: local rank {local_rank}, but {torch.cuda.device_count()} devices"
        )
    return torch.device("cuda", local_rank)


def set_threads(asked: int | None) -> int:
    """Fix the number of CPU threads of this process, on which bits depend, and return it.

    Raises:
        ConfigError: none is configured, and OMP_NUM_THREADS is not a number above 0.
    """
    said = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # OpenMP takes a list, a level each
    if asked is None and said and not (said.isdecimal() and int(said) > 0):
        raise ConfigError(f"environment: OMP_NUM_THREADS is {said!r}; expected a number of threads")
    number = asked or int(said or torch.get_num_threads())
    torch.set_num_threads(number)
    return number
