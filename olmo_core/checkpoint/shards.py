"""One rank's part of a checkpoint: planned once, copied to the host, written and digested.

The files are torch's distributed format (`torch.distributed.checkpoint`). Its `save` plans anew
each time and copies what it then does not write; here the plan of the first save serves all later
ones, since names and shapes stay, and only what this rank writes is copied. A SHA-256 is taken of
the bytes on their way to the file, so that digesting costs no second read; the CRC-32 of the zip
format inside is left out for it.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.checkpoint.utils import _DistWrapper
from torch.utils.serialization import config as serialization

Digests = dict[str, dict[str, Any]]  # file name -> its bytes and SHA-256
Written = tuple[list[WriteResult], Digests]  # what one rank wrote: where each tensor lies, its file

_PIECE_BYTES = 1 << 18  # stays in the core's cache from its digest to its copy into the file


class Shards:
    """What this rank writes of `state`, with buffers on the host that every save uses again.

    Args:
        state: Flat mapping of names to tensors or DTensors; its names and shapes are those of every
            later `copy`.
        group: The ranks; all of them build their `Shards` together.
    """

    def __init__(self, state: Mapping[str, Tensor], group: _DistWrapper) -> None:
        self._planner = _StagedPlanner()
        self._planner.set_up_planner(dict(state), is_coordinator=group.is_coordinator)
        plans = group.gather_object(self._planner.create_local_plan())
        metadata: Metadata | None = None
        if plans is not None:
            plans, metadata = self._planner.create_global_plan(plans)
            plans = FileSystemWriter("").prepare_global_plan(plans)
        self._plan: SavePlan = self._planner.finish_plan(group.scatter_object(plans))
        self._metadata = metadata  # on the first rank alone

    def copy(self, state: Mapping[str, Tensor]) -> None:
        """Copy this rank's part to the host; `state` may change again once this returns."""
        self._planner.stage(state, self._plan)

    def write(self, folder: Path) -> Written:
        """Write what was copied last as this rank's file in `folder`, flushed to the disk."""
        writer = _Writer(folder)
        switches: Any = serialization  # torch makes `patch` as it imports the module
        with switches.patch({"save.compute_crc32": False}):
            results = writer.write_data(self._plan, self._planner).value()
        return results, writer.files.digests

    def write_index(self, folder: Path, results: list[list[WriteResult]]) -> Digests:
        """Write the file that says where each tensor lies; the first rank calls it, at last."""
        assert self._metadata is not None
        writer = _Writer(folder)
        writer.finish(dataclasses.replace(self._metadata), results)
        (written,) = writer.files.digests.values()  # torch writes it beside and renames it
        return {".metadata": written}


class _StagedPlanner(DefaultSavePlanner):
    """Torch's plan, whose data come from the buffers on the host."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: dict[MetadataIndex, Tensor] = {}

    def stage(self, state: Mapping[str, Tensor], plan: SavePlan) -> None:
        self.state_dict = dict(state)
        shards = {item.index: self.lookup_object(item.index).detach() for item in plan.items}
        for index, shard in shards.items():
            if index not in self._buffers:
                self._buffers[index] = torch.empty(
                    shard.shape, dtype=shard.dtype, pin_memory=shard.is_cuda
                )
            self._buffers[index].copy_(shard, non_blocking=True)
        for device in {shard.device for shard in shards.values() if shard.is_cuda}:
            torch.cuda.synchronize(device)
        self.state_dict = {}

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self._buffers[write_item.index]


class _Writer(FileSystemWriter):
    """One file per rank, in the order of the plan: the bytes are the same each time."""

    def __init__(self, folder: Path) -> None:
        # without copying ahead, which would sort by size where there is a GPU
        super().__init__(folder, single_file_per_rank=True, thread_count=1, per_thread_copy_ahead=0)
        self.files = self.fs = _DigestedFiles()

    def storage_meta(self) -> None:
        """Return nothing: torch's own is a random number and the temporary folder's name."""


class _DigestedFiles(FileSystem):
    def __init__(self) -> None:
        self.digests: Digests = {}

    @contextlib.contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[Any]:
        stream = _DigestedStream(io.FileIO(path, mode))
        try:
            with contextlib.closing(stream):
                yield stream
        except Exception as error:
            # torch hides the cause of what fails in its own writer
            cause = stream.error or error
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, os.fspath(path)) from error
            raise
        sha256 = stream.digest.hexdigest()
        self.digests[Path(path).name] = {"bytes": stream.written, "sha256": sha256}


class _DigestedStream(io.BufferedWriter):
    """A file that is digested while it is written."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self.digest = hashlib.sha256()
        self.written = 0
        self.error: OSError | None = None

    def write(self, content: Any, /) -> int:
        view = memoryview(content)
        try:
            for start in range(0, len(view), _PIECE_BYTES):
                piece = view[start : start + _PIECE_BYTES]
                self.digest.update(piece)
                self.written += super().write(piece)
        except OSError as error:
            self.error = error
            raise
        return len(view)
