"""Taking away, killed at any moment: nothing is lost, and the next ends the work."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.collect.trash import TRASH, trashed
from tests.pipelines.collect.collecting import a_root, require_whole, run_gc


def killed_after(root: Path, operations: int) -> bool:
    """Run it in a process that is killed at its n-th change of the disk; whether it was."""
    # Not a fork of this process: a lock that another thread holds would be held there for ever.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run_gc_until, args=(root, operations))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _run_gc_until(root: Path, left: int) -> None:
    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_or_die(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **named)

        return act_or_die

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    run_gc(root)


def test_killed_at_each_change_nothing_is_lost_and_the_next_ends_the_work(tmp_path: Path) -> None:
    operations, moments = 0, 0
    while True:
        made, stay = a_root(tmp_path / f"root{operations}", runs=16)
        before = made.stamps(stay)
        killed = killed_after(made.root, operations)
        require_whole(made, stay, before)
        run_gc(made.root)
        assert made.there() == stay
        assert made.stamps(stay) == before
        assert not (made.root / TRASH).exists()
        if not killed:
            break
        moments += 1
        operations += 1 + operations // 8
    assert moments > 20


GC = """
import sys
from pathlib import Path
from tests.pipelines.collect.collecting import run_gc
print("ready", flush=True)
sys.stdin.readline()
run_gc(Path(sys.argv[1]))
print("done", flush=True)
"""


def kill_at_random_moments(folder: Path, count: int) -> list[str]:
    """Real processes killed from outside; returns how far each has come."""
    dice, seen = random.Random(count), []
    whole_seconds = 0.0
    for number in range(count + 1):
        made, stay = a_root(folder / f"root{number}", seed=number, runs=80)
        before = made.stamps(stay)
        process = subprocess.Popen(
            [sys.executable, "-c", GC, str(made.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        process.stdin.write("go\n")
        process.stdin.flush()
        if number == 0:  # how long a whole one takes
            assert process.stdout.readline() == "done\n"
            whole_seconds = time.monotonic() - began
            process.wait()
            continue
        time.sleep(dice.random() * whole_seconds)
        process.kill()
        process.wait()
        require_whole(made, stay, before)
        moved, deleting = len(trashed(made.root)), [*made.root.glob(f"{TRASH}/*/emptying*")]
        gone = len(made.inputs) - len(made.there())
        seen.append(
            f"{gone} of {len(made.inputs) - len(stay)} moved"
            + (", deleting" if deleting else ", in the trash" if moved else "")
        )
        run_gc(made.root)
        assert made.there() == stay
        assert made.stamps(stay) == before
        assert not (made.root / TRASH).exists()
    return seen


@pytest.mark.slow
def test_killed_at_a_few_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    assert len(kill_at_random_moments(tmp_path, 4)) == 4


@pytest.mark.drill
def test_killed_at_thirty_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    seen = kill_at_random_moments(tmp_path, 30)
    print("\n".join(seen))
    assert len(seen) == 30
