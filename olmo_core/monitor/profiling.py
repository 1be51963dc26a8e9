"""Profile a few early steps of an attempt, as OLMo does."""

import contextlib
import cProfile
import functools
import itertools
import logging
import pstats
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from olmo_core.config.train import TrainConfig

log = logging.getLogger("olmo")

_PYTHON_STEPS = (5, 8)  # the first and the last that cProfile sees
_WAIT, _WARM_UP, _ACTIVE = 1, 5, 3  # steps of torch's profiler


@contextlib.contextmanager
def profiling(config: TrainConfig, *, first: bool) -> Iterator[Callable[[], None]]:
    """Profile the first rank into `<run>/profiler/`: `python_profiling` and `torch_profiling`.

    `python.txt` is cProfile's table of the attempt's steps 5 to 8, `trace.json` a Chrome trace of
    steps 7 to 9. An attempt that ends earlier leaves neither.

    Yields:
        A function to call after each step.
    """
    with contextlib.ExitStack() as stack:
        hooks: list[Callable[[], None]] = []
        folder = config.save_folder / "profiler"
        if first and config.python_profiling:
            hooks.append(functools.partial(next, _python(folder)))
        if first and config.torch_profiling:
            hooks.append(stack.enter_context(_torch(folder)))

        def step_done() -> None:
            for hook in hooks:
                hook()

        yield step_done


def _python(folder: Path) -> Iterator[None]:
    profile = cProfile.Profile()
    for step in itertools.count(1):
        if step == _PYTHON_STEPS[0] - 1:
            profile.enable()
        elif step == _PYTHON_STEPS[1]:
            profile.disable()
            folder.mkdir(exist_ok=True)
            path = folder / "python.txt"
            with path.open("w", encoding="utf-8") as text:
                pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(100)
            log.info("wrote %s", path)
        yield


@contextlib.contextmanager
def _torch(folder: Path) -> Iterator[Callable[[], None]]:
    def write(profile: torch.profiler.profile) -> None:
        folder.mkdir(exist_ok=True)
        profile.export_chrome_trace(str(folder / "trace.json"))
        log.info("wrote %s", folder / "trace.json")

    schedule = torch.profiler.schedule(wait=_WAIT, warmup=_WARM_UP, active=_ACTIVE, repeat=1)
    with torch.profiler.profile(schedule=schedule, on_trace_ready=write) as profile:
        yield profile.step
