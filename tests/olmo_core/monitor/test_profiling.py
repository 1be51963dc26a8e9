import io
import pstats
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from olmo_core.monitor.profiling import ThreadProfile, profiling


def inner(number: int) -> int:
    return sum(range(number))


def recursive(depth: int) -> int:
    return inner(1000) if depth == 0 else recursive(depth - 1)


def outer() -> None:
    for _ in range(300):
        inner(300)
    recursive(4)


def test_an_attempt_that_ends_early_is_profiled_no_further(tmp_path: Path) -> None:
    config = SimpleNamespace(python_profiling=True, torch_profiling=False, save_folder=tmp_path)
    with profiling(cast(Any, config), first=True) as step_done:
        for _ in range(5):
            step_done()
        assert sys.getprofile() is not None
    assert sys.getprofile() is None


def test_the_calls_of_this_thread_are_timed_and_no_others() -> None:
    done = threading.Event()

    def elsewhere() -> None:
        while not done.is_set():
            inner(50)

    other = threading.Thread(target=elsewhere)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as many changes of thread as can be
    profile = ThreadProfile()
    try:
        profile.enable()
        outer()
        profile.disable()
    finally:
        sys.setswitchinterval(interval)
        done.set()
        other.join()
    found = {name: counted for (_, _, name), counted in profile.stats.items()}
    assert {name: found[name][:2] for name in ("outer", "inner", "recursive")} == {
        "outer": (1, 1),
        "inner": (301, 301),
        "recursive": (1, 5),
    }
    assert found["<builtins sum>"][:2] == (301, 301)
    own, total = found["outer"][2:4]
    assert own + found["inner"][3] + found["recursive"][2] <= total * 1.0001
    assert total >= found["recursive"][3] >= found["recursive"][2]
    assert sum(counted[2] for counted in found.values()) <= total * 1.01 + 1e-4
    table = io.StringIO()
    stats = pstats.Stats(profile, stream=table)  # pyright: ignore[reportArgumentType]
    stats.sort_stats("cumulative").print_stats()
    assert "(recursive)" in table.getvalue()
    assert "5/1" in table.getvalue()
