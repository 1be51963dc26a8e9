"""`olmo compare --documents`: what it prints of documents that hold anything."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from assets.assemble import build_graph
from assets.graph import Graph
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.evals.task_documents import TaskDocuments, write_documents
from pipelines.cli import flips
from pipelines.cli.flips import print_flips, shown
from tests.assets.evals.scored_checkpoints import score

RECIPES = Path(__file__).parents[2] / "recipes"
HOSTILE = "[bold]red[/] \x1b[31mor\x9b2J\u202eleft\n\ttwo " + "word " * 40
STEPS = "stage1@step100", "stage1@step200"


def documents(right: list[int]) -> TaskDocuments:
    numbers = range(len(right))
    return {
        "document": [*numbers],
        "target": ["[red]yes" for _ in numbers],
        "question": [f"{number} {HOSTILE}" for number in numbers],
        "document_digest": [f"d{number}" for number in numbers],
        "prompt_digest": [f"p{number}" for number in numbers],
        "values": {"acc": [float(value) for value in right]},
        "answers": {"acc": ["[red]yes" if value else "no\x1b" for value in right]},
    }


@pytest.fixture
def evaluated(toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Two checkpoints: of 40 documents the second has 13 wrong that the first has right, and 1."""
    monkeypatch.setenv("OLMO_RECIPES", str(RECIPES))
    graph = build_graph(load_recipe("tiny"))
    before = [1] * 20 + [0] * 20
    after = [0] * 13 + [1] * 8 + [0] * 19
    for name, right in zip(STEPS, (before, after), strict=True):
        score(graph, toy_root, int(name.partition("@step")[2]), sum(right) / 40, n=40)
        [folder] = toy_root.glob(f"tiny/checkpoint_downstream/{name}/*")
        write_documents(folder / "documents.parquet", [(name, {"copa": documents(right)})])
    return graph


def test_counts_and_the_first_documents_both_ways(
    evaluated: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr(flips, "terminal", lambda: Console(file=output, width=160))
    assert print_flips("tiny", STEPS, as_json=False) == 0
    lines = [line.rstrip() for line in output.getvalue().split("\n")]
    assert lines[0] == "stage1@step100 → stage1@step200"
    assert lines[2].split() == ["copa", "acc", "40", "20", "8", "13", "1"]
    assert "copa acc: right → wrong" in output.getvalue()
    assert "copa acc: wrong → right" in output.getvalue()
    rows = [line for line in lines if "[bold]red[/] \\x1b[31mor\\x9b2J\\u202eleft two word" in line]
    assert [int(line.split()[0]) for line in rows] == [*range(10), 20]
    assert all("[red]yes" in line and "no\\x1b" in line for line in rows)
    assert "… and 3 more; --json has all" in output.getvalue()
    assert "\x1b[31m" not in output.getvalue()
    assert not {"\x9b", "\u202e", "\t"} & set(output.getvalue())


def test_json_has_all(evaluated: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_flips("tiny", STEPS, as_json=True) == 0
    [found] = json.loads(capsys.readouterr().out)
    names: dict[str, Any] = {"before": STEPS[0], "after": STEPS[1], "task": "copa", "metric": "acc"}
    assert {key: found[key] for key in names} == names
    assert (found["documents"], found["right_before"], found["right_after"]) == (40, 20, 8)
    assert [each["document"] for each in found["right_to_wrong"]] == [*range(13)]
    [right] = found["wrong_to_right"]
    question = f"20 {HOSTILE}"
    answers = {"target": "[red]yes", "before": "no\x1b", "after": "[red]yes"}
    assert right == {"document": 20, "question": question, **answers}


def test_a_task_without_documents_is_named(
    evaluated: Graph, toy_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = toy_root.glob(f"tiny/checkpoint_downstream/{STEPS[1]}/*/documents.parquet")
    path.unlink()
    assert print_flips("tiny", STEPS, as_json=True) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["task"], found["metric"]) == ("copa", "acc")
    assert "never written" in found["why"]


@pytest.mark.parametrize("models", [(), ("soup",)])
def test_it_is_of_two_models(evaluated: Graph, models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=f"found {len(models)} models; expected two"):
        print_flips("tiny", models, as_json=False)


def test_what_fits_a_line_is_shown_whole() -> None:
    assert shown("ab\nc").plain == "ab c"
    assert shown(None).plain == ""
    assert shown("x" * 81).plain == "x" * 80 + "…"
