"""A toy job under a real supervisor, for the tests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from olmo_core.files import write_json
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder

# What each attempt does stands in toy.json, a list of words an attempt.
TOY = """
import json, os, signal, sys, threading, time
from pathlib import Path
from olmo_core.run.command import exit_codes
from olmo_core.run.job import Job, Report, Stopped

folder = Path(sys.argv[1])
attempt = int(os.environ["OLMO_ATTEMPT"])
acts = json.loads(Path(__file__).with_name("toy.json").read_text())
with exit_codes(), Job.open(folder, resumable=True) as job:
    for act in acts[min(attempt, len(acts)) - 1]:
        word, _, value = act.partition(" ")
        if word == "step":
            job.progress(int(value), 10, unit="steps", figures={"step": int(value)})
        elif word == "checkpoint":
            (folder / "checkpoints" / f"step{value}").mkdir(parents=True)
            (folder / "checkpoints" / f"step{value}" / "manifest.json").touch()
        elif word == "say":
            print(value, flush=True)
        elif word == "exit":
            os._exit(int(value))
        elif word == "signal":
            job._write_status()
            os.kill(os.getpid(), int(value))
            threading.Event().wait()
        elif word == "pause":
            threading.Event().wait(float(value))
        elif word == "allocate":
            filled = bytearray(b"x") * (int(value) << 20)
        elif word == "compute":
            end = time.monotonic() + float(value)
            while time.monotonic() < end:
                pass
        elif word == "hang":
            threading.Event().wait()
        elif word == "raise":
            raise KeyError(value)
        elif word == "until_asked":
            (folder / "log" / "ready").touch()
            while not job.stop_requests:
                threading.Event().wait(0.01)
            raise Stopped
    job.finish(Report())
"""

Supervise = Callable[..., int]


class Toy:
    """A run folder with a toy job in it, and its supervisor."""

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root / "recipe" / "asset" / "0123456789ab")
        self.folder.log.mkdir(parents=True)
        self.script = root / "toy.py"
        self.script.write_text(TOY)
        self.group: Path | None = None  # control group
        self.environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        for name in ("OLMO_ATTEMPT", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID"):
            self.environment.pop(name, None)

    def start(self, *acts: list[str], **run: Any) -> "subprocess.Popen[bytes]":
        self.submit(*acts, **run)
        with (self.folder.log / "submission1.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "olmo_core.supervisor.supervise", str(self.folder.path)],
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=self._enter_group,
            )

    def _enter_group(self) -> None:
        if self.group is not None:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def submit(self, *acts: list[str], submission: int = 1, **run: Any) -> None:
        self.script.with_name("toy.json").write_text(json.dumps(acts))
        command = [sys.executable, str(self.script), str(self.folder.path)]
        write_json(
            self.folder.launch,
            {
                "schema_version": 1,
                "engine": "slurm" if "SLURM_JOB_ID" in self.environment else "local",
                "log": "log/submission1.log",
                "command_line": "by hand",
                "run": {"command": command, "stall_timeout_seconds": 60, "max_failures": 3, **run},
            },
        )
        write_json(self.folder.claim, {"schema_version": 1, "key": "abc", "submission": submission})

    def run(self, *acts: list[str], **run: Any) -> int:
        return self.start(*acts, **run).wait(60)

    def ready(self) -> None:
        wait_until((self.folder.log / "ready").exists)

    @property
    def ends(self) -> list[Mapping[str, Any]]:
        return [row for row in attempts.read(self.folder) if row["event"] == "ended"]

    @property
    def causes(self) -> list[tuple[str, str]]:
        return [(row["cause"], row["next"]) for row in self.ends]

    @property
    def failure(self) -> Mapping[str, Any]:
        return self.folder.read(self.folder.failure) or {}

    @property
    def log(self) -> str:
        return (self.folder.log / "submission1.log").read_text()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
