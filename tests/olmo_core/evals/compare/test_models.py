"""Two models side by side: what compares, what does not and why, and what a seed alone does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.evals.compare.models import Compared, Floors, compare, seed_floors

SOURCES = ("web", "code")


def task(name: str = "copa", value: float = 0.5, **fields: Any) -> dict[str, Any]:
    """A row of the store, of a downstream evaluation."""
    known = {"asset": "checkpoint_downstream", "metric": "acc", "stderr": 0.01, "n": 2000}
    asked = {"task_version": "1.0", "split": "validation", "num_fewshot": 0, "limit": None}
    asked |= {"limit_to": None, "sample_seed": None, "data_sha256": f"data of {name}"}
    known |= {"model": "m", "folder": "/gone"}  # so that standard errors are all there is
    row = {"task": name, "value": value, "headline": None, **known, **asked, **fields}
    return {"task_sha256": str([row[key] for key in ("task", *asked)]), **row}


def texts(
    folder: Path, model: str, shift: float, *, documents: int = 40, **changed: Any
) -> list[Any]:
    """Rows of a perplexity evaluation; each byte of its documents takes `shift` bits more."""
    folder.mkdir(parents=True)
    generator = np.random.Generator(np.random.PCG64(11))
    rows: list[dict[str, Any]] = []
    for number in range(documents):
        size = int(generator.integers(50, 500))
        bits = size * (generator.normal(2.0, 0.5) + shift)
        source = SOURCES[number % 2]
        facts = {"model": model, "set": "held_out", "id": f"d{number}", "source": source}
        rows.append(
            {**facts, "domain": source, "bytes": size, "log_likelihood": -bits * math.log(2)}
        )
        rows[-1] |= changed
    others = [{**row, "model": "another", "log_likelihood": -1.0} for row in rows]
    empty = {**rows[0], "id": "empty", "bytes": 0, "log_likelihood": 0.0}
    pq.write_table(pa.Table.from_pylist([*others, *rows, empty]), folder / "documents.parquet")
    found = []
    for source in (None, *SOURCES):
        of_source = [row for row in rows if source in (None, row["source"])]
        value = -sum(row["log_likelihood"] for row in of_source) / math.log(2)
        name = "held_out" + (f"/{source}" if source else "")
        perplexity = {"asset": "checkpoint_perplexity", "metric": "bits_per_byte", "stderr": None}
        value /= sum(row["bytes"] for row in of_source)
        found.append(task(name, value, **perplexity, folder=str(folder), model=model))
        found.append({**found[-1], "metric": "loss", "value": 7.0})
    return found


def side_by_side(before: list[Any], after: list[Any], floors: Floors | None = None) -> Compared:
    return compare(("stage1@step10", "stage1@step20"), before, after, floors or {})


def verdicts(compared: Compared) -> dict[str, str]:
    return {figure.task: figure.verdict for figure in compared.figures}


def test_documents_are_compared_in_pairs_of_each_set_and_source(tmp_path: Path) -> None:
    before, after = texts(tmp_path / "a", "m", 0.0), texts(tmp_path / "b", "n", 0.02)
    compared = side_by_side(before, after)
    assert verdicts(compared) == dict.fromkeys(
        ["held_out", "held_out/web", "held_out/code"], "worse"
    )
    assert {figure.metric for figure in compared.figures} == {"bits_per_byte"}
    assert [figure.difference.n for figure in compared.figures] == [40, 20, 20]  # not the empty one
    for figure in compared.figures:
        assert figure.difference.value == pytest.approx(0.02)
        assert figure.after - figure.before == pytest.approx(0.02)
    assert set(verdicts(side_by_side(after, before)).values()) == {"better"}
    assert set(verdicts(side_by_side(before, before)).values()) == {"no difference"}


def test_a_score_of_a_task_is_better_when_it_is_higher() -> None:
    assert verdicts(side_by_side([task(value=0.5)], [task(value=0.4)])) == {"copa": "worse"}
    assert verdicts(side_by_side([task(value=0.4)], [task(value=0.5)])) == {"copa": "better"}
    assert verdicts(side_by_side([task(value=0.5)], [task(value=0.51)])) == {
        "copa": "no difference"
    }
    for metric in ("word_perplexity", "ce_loss", "bpb"):
        rows = [task(value=value, metric=metric) for value in (0.4, 0.5)]
        assert verdicts(side_by_side(rows[:1], rows[1:])) == {"copa": "worse"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"limit": 100}, "limit None → 100"),
        ({"num_fewshot": 5}, "num_fewshot 0 → 5"),
        ({"split": "test"}, "split validation → test"),
        ({"task_version": "2.0"}, "task_version 1.0 → 2.0"),
        ({"data_sha256": "0123456789abcdef"}, "data_sha256 data of copa → 0123456789ab"),
        ({"task_sha256": "other"}, "other prompts, examples or code"),
    ],
    ids=["limit", "shots", "split", "version", "data", "prompts"],
)
def test_what_was_asked_otherwise_is_named_and_not_compared(
    changed: dict[str, Any], says: str
) -> None:
    compared = side_by_side([task(), task("piqa")], [task(**changed), task("piqa")])
    assert [figure.task for figure in compared.figures] == ["piqa"]
    assert says in compared.not_compared["copa", "acc"]


def test_what_one_model_alone_has_is_named() -> None:
    compared = side_by_side([task(), task("piqa")], [task(), task("boolq")])
    assert [figure.task for figure in compared.figures] == ["copa"]
    assert compared.not_compared == {
        ("piqa", "acc"): "stage1@step20 was not scored on it",
        ("boolq", "acc"): "stage1@step10 was not scored on it",
    }


def test_few_documents_and_figures_without_an_error_are_named(tmp_path: Path) -> None:
    compared = side_by_side(
        [*texts(tmp_path / "a", "m", 0.0, documents=12), task(n=9), task("core", stderr=None)],
        [*texts(tmp_path / "b", "m", 0.5, documents=12), task(n=9), task("core", stderr=None)],
    )
    assert verdicts(compared) == {"held_out": "worse"}
    why = {name: said for (name, _), said in compared.not_compared.items()}
    assert why["held_out/web"] == "6 documents; expected at least 10"
    assert why["copa"] == "9 documents; expected at least 10"
    assert "no standard error" in why["core"]


def test_other_missing_or_changed_documents_are_named(tmp_path: Path) -> None:
    before = texts(tmp_path / "a", "m", 0.0)
    other = side_by_side(before, texts(tmp_path / "b", "m", 0.0, domain="x"))
    assert set(other.not_compared.values()) == {"they were scored on other documents"}
    after = texts(tmp_path / "c", "m", 0.0)
    changed = side_by_side(before, [{**row, "value": row["value"] + 1e-3} for row in after])
    assert all("do not make the figure" in why for why in changed.not_compared.values())
    (tmp_path / "c" / "documents.parquet").unlink()
    gone = side_by_side(before, after)
    assert all("gone with its run folder" in why for why in gone.not_compared.values())
    for compared in (other, changed, gone):
        assert not compared.figures


def test_a_suites_headline_alone_counts() -> None:
    rows = [task(metric="acc", headline=False), task(metric="acc_per_token", headline=True)]
    assert [figure.metric for figure in side_by_side(rows, rows).figures] == ["acc_per_token"]


def test_many_figures_together_raise_no_more_false_alarms_than_one() -> None:
    """p of 0.03 is something alone, and nothing among ten."""
    before, after = task(value=0.5), task(value=0.5 - 2.17 * math.hypot(0.01, 0.01))
    assert verdicts(side_by_side([before], [after])) == {"copa": "worse"}
    others = [task(f"t{number}") for number in range(9)]
    together = verdicts(side_by_side([before, *others], [after, *others]))
    assert set(together.values()) == {"no difference"}


def test_what_seeds_alone_do_is_no_regression() -> None:
    groups = [
        [task(value=0.50), task(value=0.61), task(value=0.55), task("piqa", value=0.3)],
        [task(value=0.40), task(value=0.42)],  # of another step
        [task(value=0.1, task_sha256="asked otherwise"), task(value=0.9)],
    ]
    floors = seed_floors(groups)
    key = (task()["task_sha256"], "acc")
    assert {key: (floor.spread, floor.models) for key, floor in floors.items()} == {
        key: (pytest.approx(0.11), 3)
    }
    assert verdicts(side_by_side([task(value=0.5)], [task(value=0.4)], floors)) == {
        "copa": "within seeds"
    }
    assert verdicts(side_by_side([task(value=0.5)], [task(value=0.3)], floors)) == {"copa": "worse"}
