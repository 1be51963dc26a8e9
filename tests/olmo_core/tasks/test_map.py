"""The tasks of a job: in order, once each, also where the job is killed and begins again."""

import contextlib
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from olmo_core.errors import InputError
from olmo_core.files import write_atomic
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks


def square(number: int, calls: Path, out: Path) -> dict[str, int]:
    """Write a folder with a square in it; a file in `calls` for each time that this was begun."""
    (calls / f"{number}.{time.monotonic_ns()}").touch()
    time.sleep(0.1 / (1 + number))  # the last ends first
    write_atomic(out / "square.txt", str(number**2))
    if number == 13:
        raise InputError("13: bad")
    return {"square": number**2, "pid": os.getpid()}


def tasks(job: Job, numbers: list[int], calls: Path, reads: str = "a") -> list[Task]:
    calls.mkdir(exist_ok=True)
    return [
        Task(
            name=f"square {number}",
            reads=reads,
            output=job.folder / "squares" / str(number),
            call=partial(square, number, calls),
        )
        for number in numbers
    ]


def begun(calls: Path) -> list[int]:
    return sorted(int(path.name.split(".")[0]) for path in calls.iterdir())


def written(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.glob("squares/*/square.txt")}


def marked(folder: Path) -> set[str]:
    """Names of the outputs whose tasks are marked: one may be written and not be marked yet."""
    markers = folder.glob("work/tasks/*/*.json")
    return {Path(json.loads(marker.read_text().splitlines()[0])).name for marker in markers}


def run(folder: Path, numbers: list[int], processes: int, reads: str = "a") -> list[Any]:
    """A whole job; what its tasks return."""
    with Job.open(folder) as job:
        job.processes = processes
        todo = tasks(job, numbers, folder.parent / "calls", reads)
        results = map_tasks(todo, job, unit="numbers")
        job.finish(Report())
    return results


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, str]] = []
    with Job.open(tmp_path / "run") as job:
        job.processes = processes
        monkeypatch.setattr(
            job, "progress", lambda done, total, unit, message: seen.append((done, message))
        )
        results = map_tasks(tasks(job, [0, 1, 2, 3], tmp_path / "calls"), job, unit="numbers")
        job.finish(Report())
    assert [each["square"] for each in results] == [0, 1, 4, 9]
    assert [done for done, _ in seen] == [1, 2, 3, 4]
    assert sorted(message for _, message in seen) == [f"square {number}" for number in range(4)]
    assert (os.getpid() in {each["pid"] for each in results}) == (processes == 1)
    result = RunFolder(tmp_path / "run").read_result()
    assert set(result["files"]) == {f"squares/{number}/square.txt" for number in range(4)}
    assert not (tmp_path / "run" / "work").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_restarted_job_does_what_is_not_marked_and_nothing_else(
    tmp_path: Path, processes: int
) -> None:
    folder, calls = tmp_path / "run", tmp_path / "calls"
    with pytest.raises(InputError, match="13: bad"):
        run(folder, [3, 2, 13], processes)
    finished = marked(folder)
    assert "13" not in finished
    (folder / "squares" / "7").mkdir()  # of a process that was killed before it set the marker
    (folder / "squares" / "7" / "square.txt").write_text("torn")
    (folder / "report.png").write_text("of the earlier attempt")
    results = run(folder, [3, 2, 7], processes)
    assert [each["square"] for each in results] == [9, 4, 49]
    assert written(folder) == {"3": "9", "2": "4", "7": "49"}
    assert not (folder / "report.png").exists()
    assert all(begun(calls).count(int(name)) == 1 for name in finished)
    assert finished or processes == 2  # one by one, those before the bad one are finished
    status = RunFolder(folder).read_status()
    assert status is not None
    assert status["counted_from"]["done"] == len(finished)  # what was there before is no rate


def test_a_marker_is_no_good_where_its_output_or_its_input_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = tmp_path / "run", tmp_path / "calls"

    def end_early(done: float, total: float, **_: str) -> None:
        if done == total:
            raise InputError("ended")

    def attempt(reads: str) -> None:
        with contextlib.suppress(InputError), Job.open(folder) as job:
            job.processes = 1
            monkeypatch.setattr(job, "progress", end_early)
            map_tasks(tasks(job, [1, 2], calls, reads), job, unit="numbers")

    attempt("a")
    attempt("a")
    assert begun(calls) == [1, 2]
    (folder / "squares" / "1").rename(tmp_path / "lost")
    attempt("a")
    assert begun(calls) == [1, 1, 2]
    attempt("b")
    assert begun(calls) == [1, 1, 1, 2, 2]
    (folder / "config.yaml").write_text("config: {}")  # nothing that was made before counts
    with Job.open(folder):
        assert written(folder) == {}
