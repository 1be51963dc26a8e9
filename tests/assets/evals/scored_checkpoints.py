"""Checkpoints of stage 1 with a score each, as training and its sweep leave them."""

from pathlib import Path
from typing import Any

from assets.graph import Graph
from olmo_core.files import write_json
from tests.olmo_core.evals.store.evaluations import checkpoint, evaluate, figure


def score(
    graph: Graph, root: Path, step: int, value: float, *, run: str | None = None, **fields: Any
) -> None:
    """A checkpoint of stage 1, and its evaluation, with a standard error of 0.01."""
    version = run or graph.fingerprints["stage1"].version
    folder = graph.folder(root, "stage1") / version / f"checkpoints/step{step}"
    folder.mkdir(parents=True)
    write_json(folder / "train.json", {"kind": "permanent"})
    write_json(folder / "manifest.json", {"step": step})
    model = checkpoint(step, recipe="tiny", run=version)
    figures = (figure(value=value, stderr=0.01, **fields),)
    evaluate(root, model, figures=figures, recipe="tiny")
