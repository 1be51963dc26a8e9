"""Profile a few early steps of an attempt, as OLMo does."""

import contextlib
import functools
import itertools
import logging
import pstats
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from olmo_core.config.train import TrainConfig

log = logging.getLogger("olmo")

_PYTHON_STEPS = (5, 8)  # the first and the last that Python's calls are timed in
_WAIT, _WARM_UP, _ACTIVE = 1, 5, 3  # steps of torch's profiler


@contextlib.contextmanager
def profiling(config: TrainConfig, *, first: bool) -> Iterator[Callable[[], None]]:
    """Profile the first rank into `<run>/profiler/`: `python_profiling` and `torch_profiling`.

    `python.txt` is a table of the training thread's calls in the attempt's steps 5 to 8,
    `trace.json` a Chrome trace of steps 7 to 9. An attempt that ends earlier leaves neither.

    Yields:
        A function to call after each step.
    """
    with contextlib.ExitStack() as stack:
        hooks: list[Callable[[], None]] = []
        folder = config.save_folder / "profiler"
        if first and config.python_profiling:
            profiler = stack.enter_context(contextlib.closing(_python(folder)))
            hooks.append(functools.partial(next, profiler))
        if first and config.torch_profiling:
            hooks.append(stack.enter_context(_torch(folder)))

        def step_done() -> None:
            for hook in hooks:
                hook()

        yield step_done


def _python(folder: Path) -> Generator[None]:
    profile = ThreadProfile()
    try:
        for step in itertools.count(1):
            if step == _PYTHON_STEPS[0] - 1:
                profile.enable()
            elif step == _PYTHON_STEPS[1]:
                profile.disable()
                folder.mkdir(exist_ok=True)
                path = folder / "python.txt"
                with path.open("w", encoding="utf-8") as text:
                    table = pstats.Stats(profile, stream=text)  # pyright: ignore[reportArgumentType]
                    table.sort_stats("cumulative").print_stats(100)
                log.info("wrote %s", path)
            yield
    finally:
        profile.disable()


class ThreadProfile:
    """Time the calls of one thread, as cProfile did before Python 3.12 mixed up those of all.

    Attributes:
        stats: As `pstats` reads them: by file, line and name the number of calls from outside and
            of all, seconds in the function itself and in all that it called, and no callers.
    """

    def __init__(self) -> None:
        self.stats: dict[tuple[str, int, str], tuple[int, int, float, float, dict[Any, Any]]] = {}
        self._open: list[tuple[tuple[str, int, str], float]] = []  # calls, and when they began
        self._below = [0.0]  # per open call, and outside of all: seconds in what it called
        self._depth = Counter[tuple[str, int, str]]()  # of recursion

    def enable(self) -> None:
        """Begin, in the calling thread."""
        sys.setprofile(self._note)

    def disable(self) -> None:
        """End; calls that have not returned are left out."""
        sys.setprofile(None)

    def create_stats(self) -> None:
        """Do nothing: `pstats` asks for it."""

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event in ("call", "c_call"):
            code = frame.f_code
            function = (code.co_filename, code.co_firstlineno, code.co_name)
            if event == "c_call":
                function = ("~", 0, f"<{called.__module__ or 'method'} {called.__qualname__}>")
            self._depth[function] += 1
            self._below.append(0.0)
            self._open.append((function, time.perf_counter()))
        elif self._open:  # else the call began before
            function, began = self._open.pop()
            seconds, below = time.perf_counter() - began, self._below.pop()
            self._below[-1] += seconds
            self._depth[function] -= 1
            outer = self._depth[function] == 0
            first, calls, own, total, callers = self.stats.get(function, (0, 0, 0.0, 0.0, {}))
            total += seconds if outer else 0.0
            own += seconds - below
            self.stats[function] = (first + outer, calls + 1, own, total, callers)


@contextlib.contextmanager
def _torch(folder: Path) -> Iterator[Callable[[], None]]:
    def write(profile: torch.profiler.profile) -> None:
        folder.mkdir(exist_ok=True)
        profile.export_chrome_trace(str(folder / "trace.json"))
        log.info("wrote %s", folder / "trace.json")

    schedule = torch.profiler.schedule(wait=_WAIT, warmup=_WARM_UP, active=_ACTIVE, repeat=1)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write) as profile:
        yield profile.step
