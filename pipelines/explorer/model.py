"""`/model/<recipe>/<asset>[/<version>]`: a training run or a soup, and all that is known of it."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assets.reporting.texts import duration
from olmo_core.run import attempts
from pipelines.explorer.curves import checkpoint_charts, training_charts
from pipelines.explorer.descent import generations, made_from, report_of, trained
from pipelines.explorer.experiments import Experiment, every_experiment, experiment_of
from pipelines.explorer.markdown import card_html
from pipelines.explorer.metrics import Logged, read_logged
from pipelines.explorer.mixes import dropped_chart, mix_charts
from pipelines.explorer.render import Page
from pipelines.explorer.scores import Scores

SCORE_FIELDS = ("task", "metric", "value", "stderr", "n", "num_fewshot", "limit_to")


def model_page(
    root: Path, scores: Scores, recipe: str, asset: str, version: str | None = None
) -> Page:
    """Return the page of a model.

    Raises:
        Missing: there is none of that name.
        ConfigError: a shared root is not there.
    """
    chosen = experiment_of(root, recipe, asset, version)
    experiment = chosen.experiment
    known = {each.folder.path: each for each in every_experiment(root)}
    behind = made_from(experiment.folder.path)
    rows = generations(experiment, behind, known)
    runs = trained(rows)
    notes: list[str] = []
    charts = training_charts(runs if not experiment.trained else [experiment])
    charts |= mix_charts(runs, notes)
    filtered = [each.run.path for each in behind if each.asset == "filtered"]
    charts |= dropped_chart(filtered[-1] if filtered else None)
    charts |= checkpoint_charts(root, recipe, notes)
    found = scores.models().get((experiment.recipe, experiment.version, experiment.asset), [])
    card = _card(root, experiment)
    logged = read_logged(experiment.folder.metrics) if experiment.trained else None
    return Page(
        template="model.html",
        title=f"{recipe}/{asset}",
        charts=charts,
        values={
            "experiment": experiment,
            "why": chosen.why,
            "reused": experiment.recipe != recipe,
            "generations": rows,
            "logged": logged,
            "steps_of": notable_steps(logged) if logged else [],
            "scores": [{key: row[key] for key in SCORE_FIELDS} for row in found if _shown(row)],
            "all_scores": [{key: row[key] for key in SCORE_FIELDS} for row in found],
            "card": None if card is None else card_html(card),
            "attempts": [*_attempts(experiment)],
            "notes": [*notes, *_damage(logged)],
        },
    )


def _shown(row: Mapping[str, Any]) -> bool:
    """Return whether a figure is one that a leaderboard shows."""
    return bool(row["headline"]) or row["metric"] in ("loss", "bits_per_byte")


def notable_steps(logged: Logged) -> list[tuple[str, int]]:
    """Return the steps that a reader may want to see the documents of, and why."""
    if not logged.rows:
        return []
    found = [("first", logged.steps[0])]
    found += [("spike", step) for step in logged.spikes[-20:]]
    found += [("skipped", step) for step in logged.skipped[-20:]]
    return [*found, ("last", logged.steps[-1])]


def _damage(logged: Logged | None) -> list[str]:
    if logged is None or not logged.torn:
        return []
    return [f"metrics.jsonl: {logged.torn} of its lines are torn, and left out"]


def _card(root: Path, experiment: Experiment) -> str | None:
    """Return the text of the latest card that is of this model; None where there is none."""
    places = [root] if experiment.shared is None else [root, experiment.shared]
    cards = [
        path.parent
        for place in places
        for path in place.glob(f"{experiment.recipe}/model_card/*/result.json")
    ]
    cards.sort(key=lambda path: (path / "result.json").stat().st_mtime, reverse=True)
    for path in cards:
        if experiment.folder.path in (each.run.path for each in made_from(path)):
            return (report_of(path).get("markdown") or {}).get("card")
    return None


def _attempts(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield a row per attempt of the job, as `olmo attempts` does."""
    ended = attempts.ended(experiment.folder)
    for number, began in attempts.began(experiment.folder).items():
        end = ended.get(number, {})
        when = datetime.datetime.fromtimestamp(began["time"])
        nodes = ", ".join(began.get("nodes") or []) or str(began.get("host", ""))
        yield {
            "attempt": began["attempt"],
            "began": when.strftime("%Y-%m-%d %H:%M:%S"),
            "took": duration(end["time"] - began["time"]) if end else "",
            "engine": f"{began.get('engine', '')} {began.get('job_id') or ''}".strip(),
            "where": nodes,
            "end": end.get("cause", "at work"),
            "step": end.get("step"),
            "checkpoint": end.get("checkpoint_step"),
            "then": end.get("next"),
        }
