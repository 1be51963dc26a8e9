"""`/step/<recipe>/<asset>/<version>?step=N`: the documents of a step's batch, as text."""

from pathlib import Path
from typing import Any

from assets.lineage.answers import DescribedPiece, StepAnswer, trace_step
from olmo_core.errors import InputError
from pipelines.explorer.experiments import experiment_of
from pipelines.explorer.lineages import lineage_of
from pipelines.explorer.render import Page, Publishable

MOST_CHARACTERS = 20_000  # of one document's part that are shown


def step_page(
    root: Path,
    recipe: str,
    asset: str,
    version: str,
    step: str,
    publishable: Publishable,
) -> Page:
    """Return the page of a step.

    Args:
        root: Of results.
        recipe: Its name.
        asset: Of the run.
        version: Of the run.
        step: As it was asked for.
        publishable: Whether the page may hold texts of a source; None: of all.

    Raises:
        Missing: no such run.
        ConfigError, InputError: the run has not taken this step, or what it read is not known.
    """
    experiment = experiment_of(root, recipe, asset, version).experiment
    if not (step.isdecimal() and len(step) < 19):
        raise InputError(f"step {step[:40]!r}: expected a number, as in the log and in checkpoints")
    with lineage_of(recipe) as lineage:
        answer = trace_step(lineage, int(step), stage=asset, version=version)
    return Page(
        template="step.html",
        title=f"{recipe}/{asset}: step {int(step):,}",
        values={
            "experiment": experiment,
            "run": answer.run,
            "step": answer.step,
            "instances": _instances(answer, publishable),
            "documents": len({_place(each) for pieces in answer.pieces for each in pieces}),
            "tokens": len(answer.step.instances) * answer.run.data.sequence_length,
        },
    )


def _place(described: DescribedPiece) -> tuple[str, int]:
    return described.document.file, described.document.start


def _instances(answer: StepAnswer, publishable: Publishable) -> list[dict[str, Any]]:
    return [
        {"instance": instance, "pieces": [_piece(each, publishable) for each in pieces]}
        for instance, pieces in zip(answer.step.instances, answer.pieces, strict=True)
    ]


def _piece(described: DescribedPiece, publishable: Publishable) -> dict[str, Any]:
    shown = publishable is None or publishable(described.document.source)
    text = described.decoded.text if shown else ""
    return {
        "document": described.document,
        "piece": described.piece,
        "characters": described.decoded.characters,
        "text": text[:MOST_CHARACTERS] if shown else None,
        "cut": max(0, len(text) - MOST_CHARACTERS),
    }
