"""`/compare?run=…&run=…`: experiments side by side: curves, what differs, scores with errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.lineage.causes import Found, find_causes, joined_title
from assets.lineage.sides import Side, find_side
from assets.staleness import change_line
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.losses import Losses, compare_losses, read_losses
from olmo_core.run.folder import RunFolder
from pipelines.explorer.charts import AnyChart, LineChart
from pipelines.explorer.curves import line_of
from pipelines.explorer.errors import Missing
from pipelines.explorer.experiments import Experiment, find_experiments
from pipelines.explorer.files import kept
from pipelines.explorer.metrics import LOSS, read_logged
from pipelines.explorer.render import Page
from pipelines.explorer.scores import Scores, columns_of, figure_of

MOST = 20  # experiments side by side
MOST_CAUSES = 30  # lines of one pair
UNITS = {LOSS: "nats per token"}


def compare_page(root: Path, scores: Scores, ids: Sequence[str], metric: str) -> Page:
    """Return the page of some experiments; the first is what others are compared with.

    Args:
        root: Of results.
        scores: The store's.
        ids: Of experiments.
        metric: Of `metrics.jsonl`, that is drawn; empty: the loss.

    Raises:
        Missing: one of them is not there.
        InputError: none is chosen, or too many.
    """
    known = find_experiments(root)
    wanted = [*dict.fromkeys(ids)]
    if not 0 < len(wanted) <= MOST:
        raise InputError(f"{len(wanted)} experiments are chosen; expected 1 to {MOST}")
    if unknown := [each for each in wanted if each not in known]:
        raise Missing(f"no training run and no soup is called {unknown[0][:200]}")
    chosen = [known[each] for each in wanted]
    names = short_names(chosen)
    metrics = _metrics(chosen)
    metric = metric if metric in metrics else LOSS
    lines = [line_of(each, metric, names[each.id]) for each in chosen if each.trained]
    drawn = [line for line in lines if line is not None]
    charts: dict[str, AnyChart] = {}
    if drawn:
        title = "training loss" if metric == LOSS else metric
        label = UNITS.get(metric, metric)
        charts["curves"] = LineChart(title=title, label=label, lines=drawn, smooth=True)
    notes = [
        f"{names[each.id]}: a soup has no curve of its own" for each in chosen if not each.trained
    ]
    return Page(
        template="compare.html",
        title=f"{len(chosen)} experiments side by side",
        charts=charts,
        values={
            "chosen": chosen,
            "names": names,
            "metrics": metrics,
            "metric": metric,
            "config": _config_rows(chosen, names),
            "causes": [_causes(root, chosen[0], each) for each in chosen[1:]],
            "losses": _loss_rows(chosen, names),
            "scores": _score_rows(scores, chosen),
            "notes": notes,
        },
    )


def short_names(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Return by id the shortest names that tell experiments apart."""
    longest = "{0.recipe}/{0.asset} {0.version}"
    for name in ("{0.asset}", "{0.recipe}", "{0.recipe}/{0.asset}", longest):
        found = {each.id: name.format(each) for each in experiments}
        if len({*found.values()}) == len(experiments):
            break
    return found


def _metrics(chosen: Sequence[Experiment]) -> list[str]:
    """Return the names of all figures that any of them has logged."""
    names = (name for each in chosen for name in read_logged(each.folder.metrics).metrics)
    return [*dict.fromkeys(names)]


def _config_rows(chosen: Sequence[Experiment], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row per key whose value is not the same in all."""
    keys = dict.fromkeys(key for each in chosen for key in each.config)
    return [
        {"key": key} | {names[each.id]: str(each.config.get(key, "–")) for each in chosen}
        for key in keys
        if len({str(each.config.get(key, "–")) for each in chosen}) > 1
    ]


def _causes(root: Path, first: Experiment, other: Experiment) -> dict[str, Any]:
    """Return why two differ, as `olmo diff` says it: at the asset where it arose."""
    entry: dict[str, Any] = {"experiment": other, "lines": [], "more": 0, "same": False}
    try:
        sides = [find_side(str(each.folder.path), root) for each in (first, other)]
        found = find_causes(*sides)
    except (ConfigError, InputError, ValueError, FileNotFoundError, KeyError) as error:
        return entry | {"lines": [f"cannot be told: {error}"]}
    # The values of the two themselves stand in the table already.
    own = [each for each in found.own if each.change.area != "config" or _upstream(each, sides)]
    lines = [f"{', '.join(each.assets)}: {change_line(each.change)}" for each in own]
    lines += [
        f"{asset}: because of its input {', '.join(inputs)}"
        for asset, inputs in found.because.items()
    ]
    more = max(0, len(lines) - MOST_CAUSES)
    return entry | {"lines": lines[:MOST_CAUSES], "more": more, "same": found.same}


def _upstream(found: Found, sides: Sequence[Side]) -> bool:
    """Return whether a difference is of what the two were made from, and not theirs."""
    heads = joined_title(*(str(side.asset) for side in sides))
    return any(asset != heads for asset in found.assets)


def _loss_rows(chosen: Sequence[Experiment], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return per run where its losses part from the first's; nothing where none has any."""
    first, *others = chosen
    old = _losses(first.folder.path)
    rows: list[dict[str, Any]] = []
    for each in others:
        new = _losses(each.folder.path)
        found = None if old is None or new is None else compare_losses(old, new)
        if found is not None:
            rows.append(
                {
                    "run": names[each.id],
                    "steps in common": found.steps,
                    "last loss": found.last_losses[1],
                    "of the first": found.last_losses[0],
                    "they part at step": found.first_step,
                    "largest difference": found.largest,
                    "at step": found.largest_step,
                }
            )
    return rows


@kept("metrics.jsonl", most=32)
def _losses(path: Path) -> Losses | None:
    return read_losses(RunFolder(path))


def _score_rows(scores: Scores, chosen: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Return a row per figure that a table of models shows, with that of each experiment."""
    every = scores.models()
    keys = [(each.recipe, each.version, each.asset) for each in chosen]
    columns = columns_of({key: every[key] for key in keys if key in every})
    return [
        {
            "title": title,
            "metric": metric,
            "figures": [figure_of(every.get(key, ()), (title, task, metric)) for key in keys],
        }
        for title, task, metric in columns
    ]
