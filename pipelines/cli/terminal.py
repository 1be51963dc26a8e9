"""Show a run's progress on a terminal: one bar per asset with rate and time left, or lines."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from assets.launcher import JobState
from assets.reporting.texts import amount, attempt_text, visible, visible_line
from olmo_core.run.folder import RunFolder

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as a shell has it
PLAIN_EVERY_SECONDS = 15.0
FILE_WIDTH = 160  # columns, where the output is no terminal
MARGIN = " " * 2  # as wide as the mark of what is done, and a bar's spinner


def terminal() -> Console:
    """Return standard output; wide where it is no terminal, so that a log cuts no table.

    Long lines are left to the terminal to wrap. The console has a descriptor of its own, since
    Dagster may redirect the process's while a step runs.
    """
    sys.stdout.flush()
    try:
        output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    except io.UnsupportedOperation:  # a test's or a notebook's stdout is no file
        output = None
    width = None if output is not None and output.isatty() else FILE_WIDTH
    return InertConsole(file=output, width=width, highlight=False, soft_wrap=True)


class InertConsole(Console):
    """A console whose texts are shown and never obeyed, whatever they hold and whoever prints them.

    Colours and bars are segments of rich's own; what stands in a text is written out.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is printed, their texts visible."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=visible(segment.text))


def plain(text: str) -> str:
    """Return a text of whatever origin as markup that shows it (see `visible`)."""
    return escape(visible(text))


def plain_line(text: str) -> str:
    """Return the same of a text that stands on one line, as an id or an address."""
    return escape(visible_line(text))


def print_json(value: Any) -> None:
    """Print what another program reads, and a terminal cannot obey.

    Letters of all languages stand as they are, what prints nothing as JSON's escapes.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    unwrapped: Collection[str] = (),
    title: str | None = None,
) -> Table:
    """Return a table without lines; the columns in `right` hold figures, which never wrap.

    Where even that is too wide, an ellipsis shows that a figure or a name has been cut.
    """
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in columns:
        whole = column in right or column in unwrapped
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=whole,
            overflow="ellipsis" if whole else "fold",
        )
    for row in rows:
        made.add_row(*row)
    return made


def done_text(status: Mapping[str, Any]) -> str:
    """Return `12.3k/50k tokens`, as far as it is known."""
    total = f"/{amount(status['total'])}" if status["total"] else ""
    return f"{amount(status['done'])}{total} {status['unit']}".rstrip()


class AmountColumn(progress.ProgressColumn):
    """`12.3k/50k tokens, 4.1k/s`, as far as it is known."""

    def render(self, task: progress.Task) -> Text:
        """Return the text beside the bar."""
        unit = str(task.fields.get("unit", ""))
        if not task.total:
            return Text(str(task.fields.get("message", "")), style="dim")
        rate = f", {amount(task.speed)}/s" if task.speed else ""
        return Text(f"{amount(task.completed)}/{amount(task.total)} {unit}{rate}", style="dim")


@contextlib.contextmanager
def counted(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a task is, on standard error: a bar, or lines where it is no terminal.

    Args:
        what: The task.
        unit: Of what it counts.

    Yields:
        What is told how much is done, and all.
    """
    console = Console(stderr=True, highlight=False)
    bars = progress.Progress(*_columns(), console=console, transient=True)
    task = bars.add_task(escape(what), total=None, unit=unit)
    next_line = time.monotonic() + PLAIN_EVERY_SECONDS

    def told(done: int, total: int) -> None:
        nonlocal next_line
        bars.update(task, completed=done, total=total)
        if not console.is_terminal and time.monotonic() >= next_line:
            next_line = time.monotonic() + PLAIN_EVERY_SECONDS
            print(f"{what}: {amount(done)}/{amount(total)} {unit}", file=sys.stderr, flush=True)

    with bars if console.is_terminal else contextlib.nullcontext():
        yield told


def _columns() -> list[progress.ProgressColumn]:
    return [
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=28),
        AmountColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(compact=True),
    ]


class TerminalObserver:
    """Show the progress of one `olmo run`; without a terminal, one line per event."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.done = 0
        self.total = total
        self.launched: list[str] = []
        self._task: progress.TaskID | None = None
        self._next_line = 0.0
        self._waits = False
        self._attempt: int | None = None
        self._folder: RunFolder | None = None
        self.bars = progress.Progress(*_columns(), console=console, transient=True)

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Open a bar, or say that there is nothing to do."""
        if how == "finished before":
            self._end(f"[dim]{MARGIN}{self._count()} {asset}: finished before[/]")
            return
        if how in ("launched", "submitted"):
            self.launched.append(asset)
        if how == "submitted":
            self._say(f"{asset}: submitted ({folder.path})")
            return
        self._attempt, self._folder = None, folder
        if self.console.is_terminal:
            self._task = self.bars.add_task(f"{self._count()} {asset}", total=None)
        else:
            self._next_line = time.monotonic() + PLAIN_EVERY_SECONDS
            self.console.print(f"{MARGIN}{self._count()} {asset}: {how} ({folder.path})")

    def state(self, asset: str, state: JobState) -> None:
        """Say what a job waits for, and where it runs once it has waited."""
        waited, self._waits = self._waits, state.queued
        if self._task is not None and state.queued:
            self.bars.update(self._task, total=None, message=state.description)
        elif self._task is None and (state.queued or waited):
            self._say(f"{asset}: {state.description}")

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Move the bar; say when a further attempt has begun."""
        if self._waits:
            return  # what an earlier attempt has left
        if self._folder is not None and self._attempt not in (None, status["attempt"]):
            self._say(f"{asset}: {attempt_text(self._folder, status['attempt'])}")
        self._attempt = status["attempt"]
        if self._task is not None:
            self.bars.update(
                self._task,
                completed=status["done"],
                total=status["total"],
                unit=status["unit"],
                message=status["message"],
            )
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY_SECONDS
            done = done_text(status) if status["done"] or status["total"] else "starting"
            message = f", {status['message']}" if status["message"] else ""
            self._say(f"{asset}: {done}{message}")

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Close the bar with what the asset cost."""
        seconds = result["start_seconds"] + result["work_seconds"]
        memory = result["peak_memory_bytes"] / 2**20
        self._end(
            f"[green]✓[/] {self._count()} {asset} [dim]{seconds:.1f} s, peak {memory:,.0f} MiB[/]"
        )

    def _say(self, line: str) -> None:
        """Print a line about an asset, below its name."""
        self.console.print(escape(" " * len(f"{MARGIN}[{0:>2}/{self.total}] ") + line))

    def _count(self) -> str:
        return f"[{self.done + 1:>2}/{self.total}]".replace("[", "\\[")

    def _end(self, line: str) -> None:
        if self._task is not None:
            self.bars.remove_task(self._task)
            self._task = None
        self.console.print(line)
        self.done += 1
