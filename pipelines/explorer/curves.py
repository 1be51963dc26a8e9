"""The curves of training runs, and of the evaluations of their checkpoints."""

from collections.abc import Sequence
from pathlib import Path

from assets.evals.curves import make_curves
from olmo_core.errors import ConfigError
from olmo_core.evals.store.tokens_behind import tokens_before
from pipelines.explorer import addresses
from pipelines.explorer.charts import AnyChart, Line, LineChart
from pipelines.explorer.experiments import Experiment
from pipelines.explorer.files import kept
from pipelines.explorer.lineages import lineage_of
from pipelines.explorer.metrics import LOSS, TOKENS, Logged, read_logged
from pipelines.explorer.scores import open_store

OTHERS = {"optim/learning_rate_group0": "learning rate", "optim/total_grad_norm": "gradient norm"}
MOST_PANELS = 16  # of evaluations


def training_charts(runs: Sequence[Experiment]) -> dict[str, AnyChart]:
    """Return the loss of some runs, and what else says how training went."""
    charts: dict[str, AnyChart] = {}
    lines = [line for run in runs if (line := line_of(run, LOSS, run.asset)) is not None]
    if lines:
        charts["loss"] = LineChart(
            title="training loss", label="nats per token", lines=lines, smooth=True
        )
    for metric, title in OTHERS.items():
        lines = [line for run in runs if (line := line_of(run, metric, run.asset)) is not None]
        if lines:
            charts[title.replace(" ", "-")] = LineChart(title=title, label=title, lines=lines)
    return charts


def line_of(run: Experiment, metric: str, name: str) -> Line | None:
    """Return a run's curve of a figure; None where it has logged none."""
    logged = read_logged(run.folder.metrics)
    values = logged.column(metric)
    if not any(value is not None for value in values):
        return None
    return Line(
        name=name,
        steps=logged.steps,
        tokens=tokens_of(run, logged),
        values=values,
        address=addresses.step(run, None),
    )


def tokens_of(run: Experiment, logged: Logged) -> list[float | None]:
    """Return the tokens behind the weights at each step: with those of what the run began from."""
    before = _before(run.folder.path) or 0  # not known: over its own tokens
    return [None if own is None else own + before for own in logged.column(TOKENS)]


@kept("result.json", "launch.json")
def _before(path: Path) -> int | None:
    return tokens_before(path)


def checkpoint_charts(root: Path, recipe: str, notes: list[str]) -> dict[str, AnyChart]:
    """Return a chart per task on which checkpoints of a recipe were scored, as `olmo curves`.

    Why there are none, if for another reason than that nothing was, is said in `notes`.
    """
    try:
        with lineage_of(recipe) as lineage:
            graph = lineage.graph
            found = make_curves([graph], open_store(root), root, [])
    except ConfigError as error:
        notes.append(f"No curves of evaluations: {error}")
        return {}
    notes += found.notes
    if len(found.panels) > MOST_PANELS:
        left = ", ".join(panel.title for panel in found.panels[MOST_PANELS:])
        notes.append(f"Not drawn: {left}; olmo curves {recipe} --task draws them")
    charts: dict[str, AnyChart] = {}
    for number, panel in enumerate(found.panels[:MOST_PANELS]):
        lines = [
            Line(
                name=curve.label,
                steps=[None] * len(curve.tokens),
                tokens=curve.tokens,
                values=curve.values,
                errors=curve.errors,
                dashed=curve.in_loop,
            )
            for curve in panel.curves
        ]
        charts[f"scores-{number}"] = LineChart(title=panel.title, label=panel.label, lines=lines)
    return charts
