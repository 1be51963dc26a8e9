"""Jobs of one module in one process, one after another: `python -m olmo_core.run.in_turn MODULE`.

For jobs that take less time than their imports. Each line of standard input is a `Turn`; the job
runs as `python -m MODULE RUN_FOLDER/config.yaml` would, with its own log. When it has ended,
launch.json has its exit code in place of this process, so that whoever follows the folder knows.
The process ends with its input, that is, with whoever submits, once the job at hand is over.
"""

import contextlib
import ctypes
import gc
import json
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from olmo_core.errors import ExitCode
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder

PROCESS = ("pid", "start_ticks")  # keys of launch.json
EXIT_CODE = "exit_code"  # key of launch.json, of a job whose process may still be there


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A job, as whoever submits it tells the process."""

    folder: str
    log: str  # relative to the folder
    environment: Mapping[str, str]  # what differs from job to job

    def line(self) -> bytes:
        """Return what is written to the process's standard input."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Run jobs until standard input ends, or one of them is stopped: its process was asked to."""
    [module] = sys.argv[1:]
    # A job has no input, and those that it starts none of this one's.
    turns = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    _redirect(os.devnull, os.O_RDONLY, 0)
    # That the module was imported before, by its own jobs, is what this process is for.
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package")
    for line in turns:
        if not line.strip():  # asked whether it reads on
            continue
        turn = Turn(**json.loads(line))
        folder = RunFolder(Path(turn.folder))
        os.environ.update(turn.environment)
        sys.stdout.flush()
        sys.stderr.flush()
        _redirect(str(folder.path / turn.log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1, 2)
        _forget_peak_memory()
        code = _run(module, folder)
        if code == ExitCode.STOPPED:
            turns.close()  # before it is known: nobody is to give another job to this process
        _end(folder, code)
        if code == ExitCode.STOPPED:
            raise SystemExit(code)
        _release()


def _release() -> None:
    """Give the memory of the job that has ended back to the system."""
    gc.collect()  # a model may hold itself
    # What glibc has freed it keeps in pieces, of its threads too, and takes further ones: 2 MB more
    # with each evaluation. Another allocator has no such call.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()  # what is left was imported, or read for all jobs: not looked at again


def _run(module: str, folder: RunFolder) -> int:
    """Run a job as a process of its own does; return its exit code."""
    sys.argv = [module, str(folder.config)]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or ExitCode.FINISHED
        print(end.code, file=sys.stderr, flush=True)
        return ExitCode.FAILED
    except Exception:
        traceback.print_exc()
        return ExitCode.FAILED
    return ExitCode.FINISHED


def _end(folder: RunFolder, code: int) -> None:
    """Write the exit code where the process stood: it is at work elsewhere from now on."""
    record = folder.read(folder.launch) or {}
    kept = {key: value for key, value in record.items() if key not in PROCESS}
    write_json(folder.launch, {**kept, EXIT_CODE: code})


def _redirect(path: str, flags: int, *descriptors: int) -> None:
    opened = os.open(path, flags, 0o644)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)


def _forget_peak_memory() -> None:
    """Have the kernel count the most memory anew: each job's figure is its own."""
    with contextlib.suppress(OSError):  # a kernel without it: the figure is of the jobs before, too
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


if __name__ == "__main__":
    main()
