"""The tables of `olmo show`, `olmo leaderboard` and `olmo run`'s end, as they are read."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from assets.graph import Graph
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.cli.show import rows_table
from pipelines.cli.summary import print_summary
from tests.conftest import toy_graph


def printed(thing: Any) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_the_points_of_a_columns_figures_stand_below_each_other() -> None:
    rows = [{"loss": 5.3472, "n": 12}, {"loss": 5.34, "n": 7}, {"loss": None, "n": None}]
    assert printed(rows_table("", rows)) == [
        ["loss", "n"],
        ["5.347", "12"],
        ["5.340", "7"],
        ["–", "–"],
    ]


@pytest.mark.parametrize("small", [3.2e-7, float("nan"), 0.000123])
def test_figures_of_very_different_sizes_keep_their_digits(small: float) -> None:
    assert printed(rows_table("", [{"x": 1234.5}, {"x": small}]))[1:] == [
        ["1234"],
        [f"{small:.4g}"],
    ]


def finish(graph: Graph, root: Path, name: str, seconds: float) -> None:
    folder = RunFolder(graph.folder(root, name) / graph.fingerprints[name].version)
    folder.path.mkdir(parents=True)
    result = {"start_seconds": 2.0, "work_seconds": seconds, "peak_memory_bytes": 5 << 20}
    write_json(folder.result, {"schema_version": 1, "inputs": {}, **result})


@pytest.mark.parametrize(
    ("wall", "said"),
    [
        (25.0, ["Dagster and this command 3.0", "wall 25.0 s, of which starts 20%"]),
        (15.0, ["wall 15.0 s: jobs waited and ran side by side"]),
    ],
)
def test_jobs_that_ran_side_by_side_are_not_taken_from_the_time_of_all(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch, wall: float, said: list[str]
) -> None:
    graph = toy_graph()
    names = list(graph.nodes)[:1]
    finish(graph, toy_root, names[0], 20.0)
    monkeypatch.setattr("pipelines.cli.summary.time.time", lambda: 1000.0)
    console = Console(file=io.StringIO(), width=160)
    print_summary(console, graph, toy_root, names, made=names, began=1000.0 - wall)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    start = lines.index("all jobs 2.0 20.0 5")
    assert lines[start + 1 : start + 1 + len(said)] == said
