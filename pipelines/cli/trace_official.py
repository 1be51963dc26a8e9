"""`olmo trace official …`: what a training of others has read, from its YAML and token metadata."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from olmo_core.lineage.batch import Piece
from olmo_core.lineage.official import OfficialRun, open_official
from olmo_core.lineage.official_documents import (
    OfficialDocument,
    OfficialInstance,
    documents_of_official_step,
    steps_of_official_document,
)
from pipelines.cli.terminal import plain_line, print_json, table, terminal

SHOWN_TIMES = 40  # that a document was read, on a terminal


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the files of a training lie, and in what it differed from its YAML."""

    tokens: Path | None
    indices: str | None
    changes: Sequence[str]

    def open(self, path: Path) -> OfficialRun:
        """Read the YAML and look at the sizes of its files."""
        return open_official(path, self.tokens, self.changes, indices=self.indices)


def print_official_step(
    path: Path,
    step: int,
    where: Where,
    instances: list[int],
    *,
    as_json: bool,
) -> None:
    """Print the windows and documents of a step's batch.

    Raises:
        ConfigError: the YAML is no training file.
        InputError: no such step or instance, or files or rows cannot be read.
    """
    run = where.open(path)
    epoch, found = documents_of_official_step(run, step, instances)
    if as_json:
        print_json(
            {
                **_about(path, run),
                "step": step,
                "epoch": epoch,
                "instances": [_instance_entry(each) for each in found],
            }
        )
        return
    console = terminal()
    console.print(
        plain_line(f"{run.config.run_name}: step {step:,} of {run.last_step:,}, epoch {epoch}")
    )
    rows = [row for each in found for row in _rows(each)]
    console.print(table(("instance", "document", "tokens", "from", "file", "at"), rows))
    without = {each.place.file for each in found if each.pieces is None}
    for file in sorted(without):
        console.print(
            plain_line(f"{file}: published without rows (.csv.gz): no documents are known")
        )


def print_official_document(
    path: Path,
    name: str,
    where: Where,
    matching: list[str],
    *,
    as_json: bool,
) -> int:
    """Print which steps read a document, and return the exit code: 1 if no rows name it.

    Raises:
        ConfigError: the YAML is no training file.
        InputError: no path matches, or files or rows cannot be read.
    """
    run = where.open(path)
    found, without = steps_of_official_document(run, name, matching)
    if as_json:
        documents = [_document_entry(each) for each in found]
        print_json(
            {**_about(path, run), "id": name, "documents": documents, "without_rows": without}
        )
        return 0 if found else 1
    console = terminal()
    for each in found:
        span = each.document
        tokens = span.end - span.start
        console.print(
            plain_line(f"{span.file} [{span.start:,}, {span.end:,}): {span.src}:{span.loc}")
        )
        if each.in_windows < tokens:
            console.print(f"{tokens - each.in_windows:,} of its tokens are in no window: the tail")
        rows = [
            [f"{one.step:,}", str(one.epoch), str(one.instance), f"{one.window:,}"]
            for one in each.taken[:SHOWN_TIMES]
        ]
        console.print(table(("step", "epoch", "instance", "window"), rows))
        if len(each.taken) > SHOWN_TIMES:
            console.print(f"and {len(each.taken) - SHOWN_TIMES:,} times more: --json")
    if run.last_known_step < run.last_step:
        console.print(
            f"steps after {run.last_known_step:,} are not known: data.drop_last is false",
            style="yellow",
        )
    if not found:
        console.print(plain_line(f"{name}: in no rows that were read"))
    for file in without:
        console.print(plain_line(f"{file}: published without rows (.csv.gz): not searched"))
    return 0 if found else 1


def print_official_checkpoint(path: Path, step: int, where: Where, *, as_json: bool) -> None:
    """Print how many tokens of the files of each folder the steps up to one have read.

    Raises:
        ConfigError: the YAML is no training file.
        InputError: no such step, or files cannot be looked at.
    """
    run = where.open(path)
    counts = run.read_up_to(step)
    if as_json:
        print_json(
            {**_about(path, run), "step": step, "folders": [asdict(each) for each in counts]}
        )
        return
    total = sum(each.tokens for each in counts)
    rows = [
        [
            plain_line(each.folder),
            f"{each.files:,}",
            f"{each.tokens:,}",
            f"{each.tokens / total:.1%}",
            f"{each.tokens / each.listed_tokens:.4f}" if each.listed_tokens else "",
        ]
        for each in counts
    ]
    console = terminal()
    console.print(plain_line(f"{run.config.run_name}: {total:,} tokens up to step {step:,}"))
    columns = ("folder", "files", "tokens", "share", "passes")
    console.print(table(columns, rows, right=columns[1:]))


def _about(path: Path, run: OfficialRun) -> dict[str, Any]:
    return {
        "config": str(path),
        "run_name": run.config.run_name,
        "last_step": run.last_step,
        "last_known_step": run.last_known_step,
        "steps_per_epoch": run.batching.per_epoch,
    }


def _rows(each: OfficialInstance) -> Iterator[list[str]]:
    if each.pieces is None:
        at = f"{each.place.start:,}–{each.place.stop:,}"
        yield [str(each.instance), "", "", "", plain_line(each.place.file), at]
        return
    for piece in each.pieces:
        span = piece.document
        at = f"{span.start + piece.start:,}–{span.start + piece.stop:,}"
        yield [
            str(each.instance),
            plain_line(span.id),
            f"{piece.start:,}–{piece.stop:,} of {span.end - span.start:,}",
            plain_line(f"{span.src}:{span.loc}"),
            plain_line(span.file),
            at,
        ]


def _instance_entry(each: OfficialInstance) -> dict[str, Any]:
    pieces = None if each.pieces is None else [_piece_entry(piece) for piece in each.pieces]
    return {
        "instance": each.instance,
        "window": each.window,
        "file": each.place.file,
        "file_tokens": [each.place.start, each.place.stop],
        "documents": pieces,
    }


def _piece_entry(piece: Piece) -> dict[str, Any]:
    span = piece.document
    return {
        "id": span.id,
        "path": span.src,
        "line": span.loc,
        "tokens": [piece.start, piece.stop],
        "offset": piece.offset,
        "document_tokens": span.end - span.start,
        "file_tokens": [span.start + piece.start, span.start + piece.stop],
    }


def _document_entry(each: OfficialDocument) -> dict[str, Any]:
    span = each.document
    return {
        "file": span.file,
        "file_tokens": [span.start, span.end],
        "path": span.src,
        "line": span.loc,
        "in_windows": each.in_windows,
        "taken": [asdict(one) for one in each.taken],
    }
