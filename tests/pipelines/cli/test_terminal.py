"""What `olmo run` says on a terminal, and in a file, of a job that waits, resumes and ends."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from assets.launcher import JobState
from assets.reporting.texts import visible
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.cli.show import rows_table
from pipelines.cli.terminal import (
    PLAIN_EVERY_SECONDS,
    InertConsole,
    TerminalObserver,
    plain,
    plain_line,
    print_json,
    table,
)
from tests.hostile import TEMPLATES

WAITS = JobState(alive=True, queued=True, description="job 7 pending: Resources")
RUNS = JobState(alive=True, description="job 7 running on n1")
RESULT = {"start_seconds": 2.0, "work_seconds": 40.5, "peak_memory_bytes": 300 << 20}


class Clock:
    """Moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("pipelines.cli.terminal.time", made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "demo/stage1/0")
    made.path.mkdir(parents=True)
    write_json(made.launch, {"schema_version": 1, "log": "log/submission3.log"})
    made.attempts.write_text(
        '{"attempt": 1, "event": "ended", "cause": "killed"}\n'
        '{"attempt": 2, "event": "ended", "cause": "preempted"}\n{"torn'
    )
    return made


def observer(*, live: bool = False) -> TerminalObserver:
    console = Console(file=io.StringIO(), width=160, force_terminal=live, color_system=None)
    return TerminalObserver(console, 12)


def said(seen: TerminalObserver) -> list[str]:
    """The lines that were printed since this was last asked."""
    file = seen.console.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    file.seek(0)
    file.truncate()
    return [line.strip() for line in text.splitlines()]


def status(attempt: int, done: int) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "done": done,
        "total": 1000,
        "unit": "steps",
        "message": "loss 3.250, 51,200 tokens/s",
    }


def test_in_a_file_a_job_says_why_it_waits_and_then_where_it_runs(folder: RunFolder) -> None:
    seen = observer()
    seen.started("stage1", folder, "launched")
    assert said(seen) == [f"[ 1/12] stage1: launched ({folder.path})"]
    seen.state("stage1", WAITS)
    seen.progress("stage1", status(2, 400))  # what an earlier attempt has left
    seen.state("stage1", RUNS)
    assert said(seen) == ["stage1: job 7 pending: Resources", "stage1: job 7 running on n1"]
    seen.state("stage1", JobState(alive=True, description="job 7 running on n1, its turn 2"))
    assert said(seen) == []  # it has not waited


def test_a_further_attempt_is_said_once_with_what_ended_the_one_before(
    folder: RunFolder, clock: Clock
) -> None:
    seen = observer()
    seen.started("stage1", folder, "following")
    seen.progress("stage1", status(2, 137))
    said(seen)
    seen.progress("stage1", status(3, 100))
    seen.progress("stage1", status(3, 101))
    assert said(seen) == ["stage1: attempt 3 after preempted"]
    seen.progress("stage1", status(4, 101))
    assert said(seen) == ["stage1: attempt 4"]  # the end of the third is not known yet


def test_the_first_look_at_a_job_in_its_third_attempt_is_no_news(folder: RunFolder) -> None:
    seen = observer()
    seen.started("stage1", folder, "following")
    said(seen)
    seen.progress("stage1", status(3, 100))
    assert said(seen) == []


def test_in_a_file_progress_is_a_line_now_and_then(folder: RunFolder, clock: Clock) -> None:
    seen = observer()
    seen.started("stage1", folder, "launched")
    said(seen)
    for done in (1, 2, 3):
        seen.progress("stage1", status(1, done))
    assert said(seen) == []
    clock.now += PLAIN_EVERY_SECONDS
    for done in (137, 138):
        seen.progress("stage1", status(1, done))
    assert said(seen) == ["stage1: 137/1k steps, loss 3.250, 51,200 tokens/s"]
    seen.finished("stage1", RESULT)
    assert said(seen) == ["✓ [ 1/12] stage1 42.5 s, peak 300 MiB"]


def test_in_a_file_a_job_that_has_done_nothing_yet_is_starting(
    folder: RunFolder, clock: Clock
) -> None:
    seen = observer()
    seen.started("stage1", folder, "launched")
    said(seen)
    clock.now += PLAIN_EVERY_SECONDS
    begun = {"attempt": 1, "done": 0, "total": None, "unit": "", "message": ""}
    seen.progress("stage1", begun)
    assert said(seen) == ["stage1: starting"]


def test_on_a_terminal_the_bar_says_why_a_job_waits_and_then_how_far_it_is(
    folder: RunFolder,
) -> None:
    seen = observer(live=True)
    seen.started("stage1", folder, "launched")
    assert bar(seen).startswith("[ 1/12] stage1")
    seen.state("stage1", WAITS)
    assert "job 7 pending: Resources" in bar(seen)
    seen.state("stage1", RUNS)
    seen.progress("stage1", status(2, 137))
    assert "137/1k steps" in bar(seen)
    assert "pending" not in bar(seen)
    seen.progress("stage1", status(3, 100))
    assert said(seen) == ["stage1: attempt 3 after preempted"]
    assert "100/1k steps" in bar(seen)


def bar(seen: TerminalObserver) -> str:
    """The bar as it stands, without its spinner."""
    lines = Console(file=io.StringIO(), width=160, color_system=None)
    lines.print(seen.bars.get_renderable())
    assert isinstance(lines.file, io.StringIO)
    return lines.file.getvalue().strip().partition(" ")[2].strip()


def test_jobs_submitted_early_and_finished_before_are_counted_right(folder: RunFolder) -> None:
    seen = observer()
    seen.started("tokenizer", folder, "submitted")
    seen.started("raw", folder, "finished before")
    seen.started("tokenizer", folder, "following")
    assert said(seen) == [
        f"tokenizer: submitted ({folder.path})",
        "[ 1/12] raw: finished before",
        f"[ 2/12] tokenizer: following ({folder.path})",
    ]
    assert seen.launched == ["tokenizer"]


def test_in_a_file_the_names_of_assets_stand_below_each_other(
    folder: RunFolder, clock: Clock
) -> None:
    seen = observer()
    seen.started("raw", folder, "finished before")
    seen.started("tokens", folder, "submitted")
    seen.started("stage1", folder, "launched")
    seen.state("stage1", WAITS)
    seen.state("stage1", RUNS)
    clock.now += PLAIN_EVERY_SECONDS
    seen.progress("stage1", status(3, 137))
    seen.finished("stage1", RESULT)
    assert isinstance(seen.console.file, io.StringIO)
    lines = seen.console.file.getvalue().splitlines()
    names = ("raw", "tokens", "stage1", "stage1", "stage1", "stage1", "stage1")
    assert [line.find(name) for name, line in zip(names, lines, strict=True)] == [10] * 7


def test_a_text_of_whatever_origin_is_shown_and_not_obeyed() -> None:
    hostile = "a\x1b[2J\x9b31m\rb\tc\nd [bold]é[/bold]\u202e"
    shown = "a\\x1b[2J\\x9b31m\\rb\tc\nd [bold]é[/bold]\\u202e"
    assert visible(hostile) == shown
    console = Console(file=io.StringIO(), width=200, highlight=False)
    with console.capture() as captured:
        console.print(plain(hostile))
    assert captured.get() == f"{shown}\n".expandtabs(8)


def shown_only(text: str) -> bool:
    """Whether a terminal that is given this text does nothing but show it."""
    return all(c.isprintable() or c in "\n\t" for c in text)


@pytest.mark.parametrize("value", TEMPLATES, ids=lambda value: ascii(value)[:30])
def test_nothing_that_is_printed_is_obeyed(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    console = InertConsole(file=file, width=160, force_terminal=True, color_system=None)
    console.print(Text(value))
    console.print(value, markup=False)
    console.print(plain(value))
    console.print(table(("id", "text"), [(plain_line(value), plain(value))]))
    console.print(rows_table("t", [{"id": value, "n": 1}]))
    assert shown_only(file.getvalue())
    print_json({"id": value, value: [value]})
    printed = capsys.readouterr().out
    assert shown_only(printed)
    assert json.loads(printed) == {"id": value, value: [value]}


def test_an_id_forges_no_second_row() -> None:
    file = io.StringIO()
    console = InertConsole(file=file, width=80, color_system=None)
    console.print(table(("id",), [(plain_line("a\nb\r\tc"),)]))
    assert [line.strip() for line in file.getvalue().splitlines()] == ["id", "a\\nb\\r\\tc"]


def test_colours_and_bars_are_richs_own_and_stay() -> None:
    file = io.StringIO()
    console = InertConsole(
        file=file, width=80, force_terminal=True, color_system="standard", highlight=False
    )
    console.print("[red]✗[/] x\x1b[2J")
    assert file.getvalue() == "\x1b[31m✗\x1b[0m x\\x1b[2J\n"
