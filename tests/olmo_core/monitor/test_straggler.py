"""A rank that takes longer has a name; what a GPU has not finished is not waited for."""

import pytest
import torch

from olmo_core.monitor import straggler
from olmo_core.monitor.straggler import LossTime, straggler_metrics


def test_the_slowest_rank_is_named_and_compared_with_the_median() -> None:
    row = straggler_metrics([0.2, 0.2, 0.3, 0.2])
    assert row == {
        "throughput/slowest_rank": 2,
        "throughput/slowest_rank/above median (%)": 50.0,
    }
    assert straggler_metrics([1.0, 3.0]) == {
        "throughput/slowest_rank": 1,
        "throughput/slowest_rank/above median (%)": 200.0,
    }
    assert straggler_metrics([]) == {}  # one rank alone
    assert straggler_metrics([0.2, 0.0]) == {}  # the other has not measured any yet


def test_a_cpu_tells_the_mean_of_the_calls_since_it_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 14.0, 20.0, 21.0])
    monkeypatch.setattr(straggler.time, "perf_counter", lambda: next(clock))
    loss_time = LossTime(torch.device("cpu"))
    for _ in range(2):
        with loss_time.measured():
            pass
    assert loss_time.mean_seconds() == 3.0
    with loss_time.measured():
        pass
    assert loss_time.mean_seconds() == 1.0
    assert loss_time.mean_seconds() == 0.0


def test_a_gpu_tells_what_it_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        """Stands in for `torch.cuda.Event`; the stream has got as far as `done`."""

        made = done = 0

        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            Event.made += 1
            self.number = Event.made

        def query(self) -> bool:
            return self.number <= Event.done

        def elapsed_time(self, end: "Event") -> float:
            assert end.query()
            return 500.0 * (end.number - self.number)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    loss_time = LossTime(torch.device("cuda", 0))
    for _ in range(2):
        with loss_time.measured():
            pass
    assert loss_time.mean_seconds() == 0.0
    Event.done = 3
    assert loss_time.mean_seconds() == 0.5
    Event.done = 4
    assert loss_time.mean_seconds() == 0.5
    assert loss_time.mean_seconds() == 0.0


@pytest.mark.gpu
def test_a_real_gpu_tells_once_it_is_done() -> None:
    device = torch.device("cuda", 0)
    loss_time = LossTime(device)
    matrix = torch.randn(4096, 4096, device=device)
    for _ in range(2):  # the first loads the library
        with loss_time.measured():
            torch.mm(matrix, matrix)
        torch.cuda.synchronize()
        assert 0 < loss_time.mean_seconds() < 60
