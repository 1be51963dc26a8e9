"""The figures of the store of results, as the pages show them."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.paths import shared_roots
from olmo_core.config.evals import LeaderboardConfig
from olmo_core.errors import ConfigError
from olmo_core.evals.columns import Column, downstream_columns, perplexity_columns
from olmo_core.evals.store.read import IN_LOOP, Results, open_results

FRESH_SECONDS = 10  # for which the store is not opened again
OF_MODELS = """
select recipe, run, model, task, metric, value, stderr, n, headline, asset, chance, truncated,
    limit_to, num_fewshot, split
from current where asset <> $in_loop and not contains(model, '@') and run is not null
order by position
"""

Row = Mapping[str, Any]
Key = tuple[str, str, str]  # recipe, version and asset of the weights' run


class Scores:
    """The figures of all models of a root; read again after a while."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._read = 0.0  # monotonic time
        self._models: dict[Key, list[Row]] = {}
        self._damaged: list[str] = []

    def models(self) -> Mapping[Key, Sequence[Row]]:
        """Return the figures of each model that is no checkpoint, in the order of the store."""
        self._renew()
        return self._models

    def damaged(self) -> Sequence[str]:
        """Return what of the store cannot be read, and why."""
        self._renew()
        return self._damaged

    def _renew(self) -> None:
        with self._lock:
            if self._read and time.monotonic() - self._read < FRESH_SECONDS:
                return
            results = open_store(self._root)
            found: dict[Key, list[Row]] = {}
            for row in results.query(OF_MODELS, in_loop=IN_LOOP):
                found.setdefault((row["recipe"], row["run"], row["model"]), []).append(row)
            self._models, self._damaged = found, [*results.damaged.values()]
            self._read = time.monotonic()


def open_store(root: Path) -> Results:
    """Return the store of results of a root, and of those that it shares."""
    return open_results(root, shared_roots(root))


def columns_of(models: Mapping[Any, Sequence[Row]]) -> list[Column]:
    """Return title, task and metric of each figure that a table of models shows.

    As in a leaderboard of a recipe that names no metrics: bits per byte, then the tasks' headlines.
    """
    every = [row for rows in models.values() for row in rows]
    of_sets = [row for row in every if row["asset"] == "perplexity"]
    tasks = [row for row in every if row["asset"] == "downstream"]
    columns = perplexity_columns(of_sets)
    try:
        columns += downstream_columns(tasks, LeaderboardConfig())
    except ConfigError:  # a task of one's own, of which no metric is known to be the one to show
        headlines = [row for row in tasks if row["headline"]]
        columns += [(row["task"], row["task"], row["metric"]) for row in headlines]
    return list(dict.fromkeys(columns))


def figure_of(rows: Sequence[Row], column: Column) -> Row | None:
    """Return a model's figure of a column; None if it has none."""
    _, task, metric = column
    return next((row for row in rows if (row["task"], row["metric"]) == (task, metric)), None)
