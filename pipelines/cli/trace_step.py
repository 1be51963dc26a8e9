"""`olmo trace step`: the documents of a step's batch."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from assets.lineage.answers import DescribedPiece, StepAnswer, trace_step
from assets.lineage.runs import Lineage
from pipelines.cli.terminal import plain, plain_line, print_json, table, terminal

COLUMNS = ("instance", "rank", "document", "source", "tokens", "characters", "from", "url")


def print_step(
    recipe: str, step: int, *, stage: str, version: str | None, text: bool, as_json: bool
) -> None:
    """Print the documents of a step's batch.

    Raises:
        ConfigError: no such recipe or run.
        InputError: the run has no such step, or there is no index of its tokens.
    """
    answer = trace_step(Lineage(recipe), step, stage=stage, version=version)
    if as_json:
        print_json(step_entry(recipe, answer, text=text))
        return
    console = terminal()
    console.print(Text(_said(answer)))
    if answer.step.skipped is None:
        console.print(Text("Whether its update was made is not known: the step is not logged."))
    elif answer.step.skipped:
        console.print("Its update was left out as a spike: no weight has changed by it.")
    console.print(table(COLUMNS, _rows(answer), right=("tokens", "characters")))
    if text:
        _print_texts(console, answer)


def step_entry(recipe: str, answer: StepAnswer, *, text: bool) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    run, step = answer.run, answer.step
    return {
        "recipe": recipe,
        "run": run.name,
        "version": run.folder.path.name,
        "path": str(run.folder.path),
        "step": step.step,
        "last_step": run.last_step,
        "finished": run.finished,
        "epoch": step.epoch,
        "attempt": step.attempt,
        "ranks": step.ranks,
        "skipped": step.skipped,
        "instances": [
            {
                "instance": instance.instance,
                "rank": instance.rank,
                "window": instance.window,
                "masked": instance.masked,
                "documents": [_entry(piece, text=text) for piece in pieces],
            }
            for instance, pieces in zip(step.instances, answer.pieces, strict=True)
        ],
    }


def _entry(described: DescribedPiece, *, text: bool) -> dict[str, Any]:
    document, piece, decoded = described.document, described.piece, described.decoded
    entry: dict[str, Any] = {
        "id": document.id,
        "source": document.source,
        "path": document.src,
        "line": document.loc,
        "url": document.url,
        "tokens": [piece.start, piece.stop],
        "offset": piece.offset,
        "labelled": piece.labelled,
        "document_tokens": document.end - document.start,
        "characters": decoded.characters,
        "document_characters": document.characters,
        "file": document.file,
        "file_tokens": [document.start + piece.start, document.start + piece.stop],
    }
    return entry | ({"text": decoded.text} if text else {})


def _said(answer: StepAnswer) -> str:
    run, step = answer.run, answer.step
    facts = [f"epoch {step.epoch}"]
    facts += [f"attempt {step.attempt}"] if step.attempt is not None else []
    facts += [f"{step.ranks} ranks" if step.ranks != 1 else "1 rank"] if step.ranks else []
    documents = {(d.document.file, d.document.start) for each in answer.pieces for d in each}
    tokens = len(step.instances) * run.data.sequence_length
    masked = sum(instance.masked for instance in step.instances)
    return (
        f"{run.label}: step {step.step} of {run.last_step} ({', '.join(facts)}): "
        f"{len(documents)} documents in {len(step.instances)} instances, {tokens:,} tokens"
        + (f"; {masked} instances masked: they repeat themselves" if masked else "")
    )


def _rows(answer: StepAnswer) -> Iterator[list[str]]:
    for instance, pieces in zip(answer.step.instances, answer.pieces, strict=True):
        mark = " masked" if instance.masked else ""
        rank = "" if instance.rank is None else str(instance.rank)
        for described in pieces:
            document, piece = described.document, described.piece
            characters = described.decoded.characters
            yield [
                f"{instance.instance}{mark}",
                rank,
                plain_line(document.id),
                plain_line(document.source),
                f"{piece.start:,}–{piece.stop:,} of {document.end - document.start:,}",
                "" if characters is None else f"{characters[0]:,}–{characters[1]:,}",
                plain_line(f"{document.src}:{document.loc}"),
                plain_line(document.url or ""),
            ]


def _print_texts(console: Console, answer: StepAnswer) -> None:
    for instance, pieces in zip(answer.step.instances, answer.pieces, strict=True):
        for described in pieces:
            head = f"── instance {instance.instance}: {described.document.id} ──"
            console.print(f"\n{plain_line(head)}", style="bold")
            console.print(plain(described.decoded.text))
