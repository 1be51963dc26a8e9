"""The tables of `olmo show`, `olmo leaderboard` and `olmo run`'s end, as they are read."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from assets.graph import Graph
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from pipelines.cli.run import print_summary
from pipelines.cli.show import rows_table
from pipelines.cli.terminal import table
from tests.conftest import toy_graph


def printed(thing: Any) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160, soft_wrap=True)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_a_wide_table_folds_its_words_and_keeps_its_figures_at_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    why = "function read_documents changed, function totals added and 4 more"
    row = ("stage2_ingredient1", "137000/480000", "2.345", why)
    console.print(table(("asset", "step", "loss", "why"), [row], right=("step", "loss")))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[1:3] == ["137000/480000", "2.345"]
    assert why.replace(" ", "") in "".join(line[40:] for line in lines[1:]).replace(" ", "")


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
    monkeypatch.setattr("pipelines.cli.run.time.time", lambda: 1000.0)
    console = Console(file=io.StringIO(), width=160, soft_wrap=True)
    print_summary(console, graph, toy_root, names, made=names, began=1000.0 - wall)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    start = lines.index("all jobs 2.0 20.0 5")
    assert lines[start + 1 : start + 1 + len(said)] == said


def test_a_sentence_in_a_table_leaves_room_for_its_figures() -> None:
    basis = " ".join(f"run{number}" for number in range(60))
    lines = printed(rows_table("", [{"figure": "seconds", "forecast": 75.32, "basis": basis}]))
    words = [word for line in lines for word in line]
    assert "75.32" in words
    assert [word for word in words if word.startswith("run")] == basis.split()
