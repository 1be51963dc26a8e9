"""The columns of a leaderboard: which figures of all rows are shown, and how."""

from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.config.evals import LeaderboardConfig
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError

Column = tuple[str, str, str]  # title, task, metric
MARK = "†"  # of a score of prompts that were cut
CHANCE = "chance"  # the row of guessing


def perplexity_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of the first set: loss, bits per byte, and those of each source.

    A further set has two, named after it: bits per byte of all, and the mean over its sources. A
    source of its name is shown with that of the first set.
    """
    columns: list[Column] = []
    first = rows[0]["task"].partition("/")[0] if rows else ""
    sets = {row["task"].partition("/")[0] for row in rows}
    for row in rows:
        name, _, source = row["task"].partition("/")
        metric = row["metric"]
        if name != first:
            titles = {"bits_per_byte": f"bpb {name}", "macro_bits_per_byte": f"mean bpb {name}"}
            if not source and metric in titles:
                columns.append((titles[metric], name, metric))
        elif metric == "loss" and not source:
            columns.append(("loss", row["task"], metric))
        elif metric == "bits_per_byte" and "/" not in source:
            shown = row["task"] if source in sets - {first} else source
            columns.append((f"bpb {shown}".strip(), row["task"], metric))
    return list(dict.fromkeys(columns))


def downstream_columns(
    rows: Sequence[Mapping[str, Any]], config: LeaderboardConfig
) -> list[Column]:
    """Return one column per task, for its chosen metric.

    A task that a suite has shows its headline, and none where it is only part of one.

    Raises:
        ConfigError: a task lacks the metric; names those that it has.
    """
    metrics: dict[str, dict[str, bool | None]] = {}  # task -> metric -> headline
    for row in rows:
        metrics.setdefault(row["task"], {})[row["metric"]] = row["headline"]
    unknown = sorted(config.metrics.keys() - metrics.keys())
    if unknown:
        raise ConfigError(
            f"leaderboard.metrics: no task {unknown[0]!r}; {nearest(unknown[0], metrics)}"
        )
    columns: list[Column] = []
    for task, known in metrics.items():
        headlines = [metric for metric, headline in known.items() if headline]
        if task not in config.metrics and None not in known.values():
            columns += [(task, task, metric) for metric in headlines]
            continue
        metric = config.metrics.get(task, config.metric)
        if metric not in known:
            raise ConfigError(
                f"leaderboard: task {task} has no {metric!r}; {nearest(metric, sorted(known))}"
            )
        columns.append((task, task, metric))
    return columns
