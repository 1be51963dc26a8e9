"""Run prepared steps of the dolma toolkit; this file runs in the toolkit's own environment.

`toolkit.py` starts it as `python -I toolkit_worker.py`. It reads a plan from stdin, imports the
toolkit once, forks one process per step, and writes one JSON line to stdout when a step ends. It
uses nothing of this project. Steps of one stage run side by side; a failed step ends the plan.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_step(kind: str, config: dict[str, Any]) -> None:
    """Run one step with the toolkit's own entry points."""
    if kind == "tag":
        runtime = importlib.import_module("dolma.core.runtime")
        # debug: in this process; the toolkit would spawn a pool that imports everything again.
        runtime.create_and_run_tagger(**config, num_processes=1, debug=True)
    elif kind == "dedupe":
        importlib.import_module("dolma").deduper(config)
    elif kind == "mix":
        importlib.import_module("dolma").mixer(config)
    else:
        raise ValueError(f"unknown kind of step: {kind}")


def fork_step(step: dict[str, Any]) -> int:
    """Start one step in a process of its own, its output in its log; returns the process id."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        die_with_parent(parent)
        log = os.open(step["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        run_step(step["kind"], step["config"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_stage(steps: list[dict[str, Any]], processes: int) -> bool:
    """Run the steps of a stage, at most `processes` at once; returns whether all ended well."""
    waiting = list(steps)
    running: dict[int, tuple[dict[str, Any], float]] = {}
    good = True
    while running or (waiting and good):
        while good and waiting and len(running) < processes:
            step = waiting.pop(0)
            running[fork_step(step)] = (step, time.monotonic())
        child, status = os.wait()
        step, started = running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        good = good and code == 0
        report = {
            "name": step["name"],
            "exit": code,
            "seconds": round(time.monotonic() - started, 3),
        }
        print(json.dumps(report), flush=True)
    return good


def main() -> None:
    """Read the plan, import the toolkit once, run the stages in order."""
    plan = json.load(sys.stdin)
    die_with_parent(plan["parent"])
    os.chdir(plan["folder"])
    # The import downloads punkt unless a folder of that name is found; no step here uses it.
    os.makedirs("nltk_data/tokenizers/punkt", exist_ok=True)
    os.environ["NLTK_DATA"] = os.path.abspath("nltk_data")
    # After NLTK_DATA is set, before the forks, which share what was imported.
    importlib.import_module("dolma.core.runtime")

    for stage in plan["stages"]:
        if not run_stage(stage, plan["processes"]):
            sys.exit(1)


if __name__ == "__main__":
    main()
