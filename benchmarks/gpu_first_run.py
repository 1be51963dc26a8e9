"""What a first run on one H200 or H100 should tell, in nine minutes: a JSON line per result.

examples:
  python benchmarks/gpu_first_run.py --out=first_run.jsonl --peer_path=/folder/with/ai2-olmo-core
  python benchmarks/gpu_first_run.py --only step peer     OLMo 2 1B against ai2-olmo-core alone
  python benchmarks/gpu_first_run.py --small              a CPU, tiny shapes, three minutes

Needs torch, numpy, pyyaml and safetensors beside this checkout, psutil for the part `command` and
pytest for `gpu_tests`. Each part is a process of its own with a time limit; its lines are written
at once, and after them one with its status: done, failed, timed out (with the last lines that it
said) or skipped (with the reason). The next part goes on in any case. Without CUDA shapes are
small. docs/performance.md says how to read the lines. The exit code is 1 if a part failed or timed
out.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-peer/bin/python"
LAST_LINES = 20  # of what a part said, where it fails
LEAST_SECONDS = 15.0  # with less left, a part would only load torch
GRACE_SECONDS = 35.0  # from SIGTERM to SIGKILL: torchrun gives its ranks, in sessions apart, 30
LAST_SECONDS = 3.0  # for what is dead, or as good as dead

# In the order of their value, with the seconds that each may take; together these are more than
# there are, so the last ones may find no time left.
PARTS = {
    "machine": (40, "device, driver, versions, copy rates"),
    "attainable": (50, "bfloat16 products and attention kernels alone"),
    "parity": (90, "loss and each gradient: CPU float32, CUDA float32, bfloat16"),
    "gpu_tests": (80, "the tests that are marked gpu"),
    "step": (120, "OLMo 2 1B: tokens/s, MFU, memory, compilation, kernels"),
    "peer": (120, "ai2-olmo-core, the same step"),
    "variants": (150, "deterministic twice, documents, logits at once, larger microbatch"),
    "curves": (50, "50 steps in bfloat16 against float32"),
    "command": (90, "the real command: killed in an asynchronous save, resumed, under torchrun"),
    "sharded": (50, "FSDP and compilation on one device"),
}

NEEDS = {"command": "psutil", "gpu_tests": "pytest"}  # that the others do not

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process that prints JSON lines."""

    name: str
    command: Sequence[str]
    seconds: float  # it is ended after them
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    skipped: str = ""  # why it cannot run


def run(parts: Iterable[Part], tell: Tell, *, minutes: float) -> bool:
    """Run the parts one after the other, none past the end; return whether none of them failed."""
    end = time.monotonic() + 60 * minutes
    good = True
    for part in parts:
        left = end - time.monotonic()
        reason = part.skipped
        if not reason and left < LEAST_SECONDS:
            reason = f"{max(left, 0):.0f} s of {minutes:g} minutes are left"
        if reason:
            tell({"part": part.name, "status": "skipped", "reason": reason})
        else:
            good = run_part(part, tell, seconds=min(part.seconds, left)) and good
    return good


def run_part(part: Part, tell: Tell, *, seconds: float) -> bool:
    """Pass a part's lines on as they come, then tell its status; return whether it is done."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            part.command,
            env=part.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        reader = threading.Thread(
            target=_pass_on, args=(process.stdout, part.name, tell), daemon=True
        )
        reader.start()
        try:
            process.wait(seconds)
            status = "failed" if process.returncode else "done"
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            _end(process)
        reader.join(LAST_SECONDS)
        seconds = round(time.monotonic() - start, 1)
        line = {"part": part.name, "status": status, "seconds": seconds}
        if status != "done":
            said.seek(0)
            line |= {"exit_code": process.returncode}
            line |= {"error": said.read().rstrip().splitlines()[-LAST_LINES:]}
        tell(line)
    return status == "done"


def _pass_on(lines: IO[str], part: str, tell: Tell) -> None:
    """Tell each line of a part under its name; one that is no JSON object as it was said."""
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        tell({"part": part, **(found if isinstance(found, dict) else {"said": line.rstrip()})})


def _end(process: "subprocess.Popen[str]") -> None:
    """End a part's process, and what it has started and left in its group."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, LAST_SECONDS)):
        end = time.monotonic() + seconds
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < end:
                process.poll()  # a dead child is there until somebody asks
                os.killpg(process.pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:  # none is left
            return


def parts_of(arguments: argparse.Namespace) -> list[Part]:
    """Return the parts that were asked for; the peer's does not see this checkout's olmo_core."""
    given = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    theirs = [each for each in given if Path(each).resolve() != ROOT]
    options = json.dumps({"small": arguments.small})
    found: list[Part] = []
    for name in arguments.only:
        python, path, skipped = sys.executable, [str(ROOT), *given], ""
        if name == "peer":
            path = [*filter(None, [arguments.peer_path]), *theirs, str(ROOT / "benchmarks")]
            python = arguments.peer_python or (str(PEER) if PEER.exists() else "")
            if arguments.peer_path:
                python = arguments.peer_python or sys.executable
            if not python:
                skipped = "ai2-olmo-core: neither --peer_python nor --peer_path is given"
        needed = NEEDS.get(name)
        if needed and find_spec(needed) is None:
            skipped = f"{needed} is not installed"
        script = ROOT / "benchmarks" / "gpu" / f"{name}.py"
        environment = {
            "OMP_WAIT_POLICY": "PASSIVE",  # as olmo_core.train sets it
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
        }
        found.append(
            Part(
                name=name,
                command=(python, str(script), options),
                seconds=PARTS[name][0],
                environment=environment,
                skipped=skipped,
            )
        )
    return found


class Lines:
    """Write each line to standard output and to a file, at once; compare ours with the peer's."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a") if path is not None else None
        self._speeds: dict[str, float] = {}
        self._lock = threading.Lock()

    def tell(self, line: dict[str, Any]) -> None:
        """Write a line."""
        with self._lock:
            for file in (sys.stdout, self._file):
                if file is not None:
                    print(json.dumps(line), file=file, flush=True)
            if line.get("what") == "speed":
                self._speeds[line["part"]] = line["tokens_per_second"]

    def compare(self) -> None:
        """Write how much faster our step is, where both were measured."""
        if {"step", "peer"} <= self._speeds.keys():
            ratio = self._speeds["step"] / self._speeds["peer"]
            self.tell({"what": "tokens per second, ours over ai2-olmo-core", "ratio": ratio})


def main() -> int:
    """Run the parts; 1 where one has failed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {name:11} {what}" for name, (_, what) in PARTS.items()),
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the lines to it, too")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--small", action="store_true", help="tiny shapes, on a GPU too")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts")
    parser.add_argument("--peer_python", default="", help="has ai2-olmo-core; else .venv-peer's")
    parser.add_argument(
        "--peer_path", default="", metavar="FOLDER", help="has it, for this Python: PYTHONPATH"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the part that runs, too
    lines = Lines(arguments.out)
    good = run(parts_of(arguments), lines.tell, minutes=arguments.minutes)
    lines.compare()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
