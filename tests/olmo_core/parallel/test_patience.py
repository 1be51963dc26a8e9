"""How long a collective may take, against stand-ins of NCCL's groups: the CPU build has none."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.distributed import distributed_c10d

from olmo_core.parallel.patience import STEP_PATIENCE, set_patience

GPU = torch.device("cuda", 0)


class Backend:
    def __init__(self, name: str) -> None:
        self._name = name
        self.limits: list[timedelta] = []

    def name(self) -> str:
        return self._name

    def _set_default_timeout(self, limit: timedelta) -> None:
        self.limits.append(limit)


class Group:
    """A group that computes on the host with gloo, and on GPUs with gloo or NCCL."""

    def __init__(self, on_gpu: str) -> None:
        self.backends = {"cpu": Backend("gloo"), "cuda": Backend(on_gpu)}

    def _get_backend(self, device: torch.device) -> Backend:
        return self.backends[device.type]


@pytest.mark.parametrize(
    ("device", "expected"), [(GPU, [STEP_PATIENCE]), (torch.device("cpu"), [])]
)
def test_the_limit_is_that_of_every_nccl_group_and_of_no_other(
    device: torch.device, expected: list[timedelta], monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody, shards, checkpoint = Group("nccl"), Group("nccl"), Group("gloo")
    groups = SimpleNamespace(pg_map=dict.fromkeys((everybody, shards, checkpoint)))
    monkeypatch.setattr(distributed_c10d, "_world", groups)
    set_patience(device, STEP_PATIENCE)
    for group in (everybody, shards):
        assert group.backends["cuda"].limits == expected
    assert not any(group.backends["cpu"].limits for group in groups.pg_map)
    assert not checkpoint.backends["cuda"].limits


@pytest.mark.gpu
def test_the_limit_is_set_where_nccl_reads_it(tmp_path: Path) -> None:
    meeting = f"file://{tmp_path / 'store'}"
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=meeting, rank=0, world_size=1)
    try:
        set_patience(GPU, STEP_PATIENCE)
        whole: Any = dist.group.WORLD
        assert whole._get_backend(GPU).options._timeout == STEP_PATIENCE
        assert whole._get_backend(torch.device("cpu")).options._timeout > STEP_PATIENCE
    finally:
        dist.destroy_process_group()
