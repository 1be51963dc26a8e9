"""Tasks' documents drawn in pairs, against exact distributions and resamples in plain loops."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from olmo_core.evals.compare import difference as statistics
from olmo_core.evals.compare.difference import RESAMPLES, drawn_sums, paired_bootstrap
from olmo_core.evals.compare.models import Compared, Comparison, compare
from olmo_core.evals.suites import BEST, MEAN, suite
from olmo_core.evals.task_documents import TaskDocuments, write_documents

Values = Mapping[str, Sequence[float]]  # by metric, of each document
Row = dict[str, Any]
STANDARD_ERROR = 0.04  # of the rows of these tests, whatever their documents


def documents_of(values: Mapping[str, Sequence[float | None]], digest: str = "") -> TaskDocuments:
    numbers = range(len(next(iter(values.values()))))
    return {
        "document": [3 * number for number in numbers],
        "target": ["yes" for _ in numbers],
        "question": [f"Question {number}?" for number in numbers],
        "document_digest": [f"document {number} {digest}" for number in numbers],
        "prompt_digest": [f"prompt {number}" for number in numbers],
        "values": {metric: list(of) for metric, of in values.items()},
        "answers": {
            metric: ["yes" if value == 1 else "no" for value in of] for metric, of in values.items()
        },
    }


def row(task: str, metric: str, value: float, folder: Path, **fields: Any) -> Row:
    known = {"asset": "downstream", "model": "m", "task_sha256": task, "headline": None}
    return {
        **{"task": task, "metric": metric, "value": value, "folder": str(folder)},
        **{"stderr": STANDARD_ERROR, "n": 100, **known, **fields},
    }


def evaluated(folder: Path, tasks: Mapping[str, Values], **fields: Any) -> list[Row]:
    """Rows of one model, with their documents in its run folder."""
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    another = {task: documents_of({m: [0.5] for m in of}) for task, of in tasks.items()}
    own = {task: documents_of(of) for task, of in tasks.items()}
    write_documents(folder / "documents.parquet", [("another", another), ("m", own)])
    return [
        row(task, metric, float(np.mean(values)), folder, **fields)
        for task, of in tasks.items()
        for metric, values in of.items()
    ]


def side_by_side(before: Sequence[Row], after: Sequence[Row]) -> Compared:
    return compare(("before", "after"), before, after, {})


def only(compared: Compared) -> Comparison:
    [found] = compared.figures
    return found


def right_and_wrong(seed: int, n: int, share: float) -> list[float]:
    return [float(random.Random(f"{seed} {number}").random() < share) for number in range(n)]


def exact_mean_change(change: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """All values of the mean of n draws from changes of -1, 0 and 1, and the chance of each."""
    n = len(change)
    once = [list(change).count(value) / n for value in (-1.0, 0.0, 1.0)]
    chances = np.ones(1)
    for _ in range(n):
        chances = np.convolve(chances, once)
    return np.arange(-n, n + 1) / n, chances


def assert_is(figure: Comparison, values: np.ndarray, chances: np.ndarray) -> None:
    """The interval and p are those of an exact distribution, but for what draws leave open."""
    slack = 5 * np.sqrt(0.025 * 0.975 / RESAMPLES)
    for bound, share in ((figure.difference.low, 0.025), (figure.difference.high, 0.975)):
        assert chances[values < bound - 1e-12].sum() <= share + slack
        assert chances[values <= bound + 1e-12].sum() >= share - slack
    tail = min(chances[values <= 1e-12].sum(), chances[values >= -1e-12].sum())
    slack = 10 * np.sqrt(tail / RESAMPLES) + 3 / RESAMPLES
    assert figure.difference.p == pytest.approx(min(1.0, 2 * tail), abs=slack)


@pytest.mark.parametrize("n", [20, 150, 1000])
def test_right_and_wrong_answers_are_the_exact_bootstrap(tmp_path: Path, n: int) -> None:
    before = right_and_wrong(1, n, 0.5)
    after = [1.0 if number % 9 == 0 else value for number, value in enumerate(before)]
    after[5] = 1 - after[5]
    compared = side_by_side(
        evaluated(tmp_path / "a", {"copa": {"acc": before}}),
        evaluated(tmp_path / "b", {"copa": {"acc": after}}),
    )
    figure = only(compared)
    assert (figure.difference.n, figure.not_paired) == (n, None)
    assert figure.difference.value == pytest.approx(np.mean(after) - np.mean(before))
    assert_is(figure, *exact_mean_change(np.subtract(after, before).tolist()))


def test_pairs_tell_apart_what_standard_errors_do_not(tmp_path: Path) -> None:
    before = right_and_wrong(2, 400, 0.5)
    after = [0.0 if number % 20 == 0 else value for number, value in enumerate(before)]
    sides = [
        evaluated(tmp_path / name, {"copa": {"acc": values}})
        for name, values in (("a", before), ("b", after))
    ]
    assert only(side_by_side(*sides)).verdict == "worse"
    (tmp_path / "a" / "documents.parquet").unlink()
    alone = only(side_by_side(*sides))
    assert alone.verdict == "no difference"
    assert alone.difference.n is None
    error = STANDARD_ERROR * 2**0.5
    expected = scipy.stats.norm(alone.difference.value, error).interval(0.95)
    assert (alone.difference.low, alone.difference.high) == pytest.approx(expected)


def test_counting_kinds_of_documents_is_drawing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """And draws of documents give scipy's interval: `test_difference`."""
    generator = np.random.Generator(np.random.PCG64(8))
    change = generator.choice([-1.0, 0.0, 0.0, 0.5], 300)
    weight = generator.choice([1.0, 2.0], 300)
    counted = paired_bootstrap(change, weight, resamples=200_000)
    monkeypatch.setattr(statistics, "_MUCH_ALIKE", 10**9)
    drawn = paired_bootstrap(change, weight, resamples=20_000)
    assert counted != drawn
    for name in ("low", "high"):
        assert getattr(counted, name) == pytest.approx(getattr(drawn, name), abs=0.01)
    columns = np.stack([change, change, weight])
    assert (drawn_sums(columns)[0] == drawn_sums(columns)[1]).all()


@pytest.mark.parametrize("n", [20, 200])
def test_answers_that_flip_by_chance_raise_few_alarms(n: int) -> None:
    """Of models that flip one document in five by chance alone, at most about one in twenty."""
    generator = np.random.Generator(np.random.PCG64(6))
    alarms = [
        paired_bootstrap(
            generator.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.8, 0.1]), np.ones(n), resamples=400
        ).p
        <= 0.05
        for _ in range(600)
    ]
    assert np.mean(alarms) < 0.09  # 0.05, and 4.5 standard deviations of 600 tries


def quantiles(draws: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def test_the_best_of_two_forms_is_chosen_in_each_resample(tmp_path: Path) -> None:
    """The forms ask about the same documents: one draw is for both, and for both models."""
    n = 120
    forms = {
        side: {
            form: right_and_wrong(seed, n, share)
            for form, seed, share in (("mc", seed + 1, 0.50), ("rc", seed + 2, 0.52))
        }
        for side, seed in (("a", 10), ("b", 20))
    }
    tasks = [
        {"olmes_boolq_mc": {"acc": of["mc"]}, "olmes_boolq_rc": {"acc": of["rc"]}}
        for of in forms.values()
    ]
    sides = [
        evaluated(tmp_path / side, each, headline=False)
        for side, each in zip("ab", tasks, strict=True)
    ]
    for side in sides:
        best = max(each["value"] for each in side)
        side.append(row("olmes_boolq", BEST, best, tmp_path / "unread"))
    figure = only(side_by_side(*sides))
    generator = random.Random(4)
    draws: list[float] = []
    for _ in range(4000):
        chosen = [generator.randrange(n) for _ in range(n)]
        before, after = (
            max(sum(of[form][number] for number in chosen) / n for form in ("mc", "rc"))
            for of in forms.values()
        )
        draws.append(after - before)
    assert (figure.task, figure.difference.n, figure.not_paired) == ("olmes_boolq", n, None)
    assert (figure.difference.low, figure.difference.high) == pytest.approx(
        quantiles(draws), abs=0.015
    )


def core_of_olmo1(folder: Path, shift: float) -> list[Row]:
    """Rows of the nine tasks, and their mean; every so many answers are otherwise."""
    tasks: dict[str, Values] = {}
    for number, name in enumerate(suite("olmo1").core):
        values = right_and_wrong(number, 60 + number, 0.5)
        changed = right_and_wrong(number + 100, 60 + number, abs(shift))
        after = [
            float(shift > 0) if other else old for old, other in zip(values, changed, strict=True)
        ]
        tasks[name] = {suite("olmo1").tasks[name].metric or "": after}
    rows = evaluated(folder, tasks, headline=True)
    mean = float(np.mean([each["value"] for each in rows]))
    return [*rows, row("olmo1_core", MEAN, mean, folder, headline=True)]


def test_a_suites_mean_is_drawn_task_by_task(tmp_path: Path) -> None:
    before, after = core_of_olmo1(tmp_path / "a", 0.0), core_of_olmo1(tmp_path / "b", 0.1)
    compared = side_by_side(before, after)
    [figure] = [each for each in compared.figures if each.task == "olmo1_core"]
    assert figure.not_paired is None
    assert figure.difference.n == sum(60 + number for number in range(9))
    # Tasks are asked apart, so the variances of their means' differences add.
    changes: list[np.ndarray] = []
    for name in suite("olmo1").core:
        metric = suite("olmo1").tasks[name].metric or ""
        sides = [core_values(tmp_path / side, name, metric) for side in "ab"]
        changes.append(sides[1] - sides[0])
    error = np.sqrt(sum(np.var(change) / len(change) for change in changes)) / 9
    low, high = scipy.stats.norm(figure.difference.value, error).interval(0.95)
    assert (figure.difference.low, figure.difference.high) == pytest.approx((low, high), abs=0.003)
    assert figure.difference.value == pytest.approx(np.mean([each.mean() for each in changes]))


def core_values(folder: Path, task: str, metric: str) -> np.ndarray:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "documents.parquet").to_pylist()
    keys = {"model": "m", "task": task, "metric": metric}
    return np.array([each["value"] for each in rows if all(each[k] == keys[k] for k in keys)])


def test_equal_documents_differ_by_nothing(tmp_path: Path) -> None:
    """Also where they have weights, as those of a mean over subjects: to the last bit."""
    weights = np.random.Generator(np.random.PCG64(2)).uniform(0.2, 3, 5)
    values = [float(weights[number % 5] * (number % 3 == 0)) for number in range(200)]
    sides = [evaluated(tmp_path / side, {"mmlu": {"acc_macro": values}}) for side in "ab"]
    figure = only(side_by_side(*sides))
    assert (figure.difference.low, figure.difference.high, figure.difference.p) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("change", ["digest", "fewer", "numbers"])
def test_other_documents_are_not_compared(tmp_path: Path, change: str) -> None:
    values = {"copa": {"acc": right_and_wrong(3, 50, 0.5)}}
    before, after = evaluated(tmp_path / "a", values), evaluated(tmp_path / "b", values)
    other = documents_of(values["copa"], digest="of other data" * (change == "digest"))
    if change == "fewer":
        other = documents_of({"acc": values["copa"]["acc"][:40]})
    elif change == "numbers":
        other["document"] = [number + 1 for number in other["document"]]
    write_documents(tmp_path / "b" / "documents.parquet", [("m", {"copa": other})])
    after = [{**each, "value": float(np.mean(other["values"]["acc"]))} for each in after]  # type: ignore[arg-type]
    compared = side_by_side(before, after)
    assert not compared.figures
    assert compared.not_compared == {("copa", "acc"): "they were scored on other documents"}


def test_why_standard_errors_are_used_is_said(tmp_path: Path) -> None:
    values: Any = {"copa": {"acc": right_and_wrong(3, 50, 0.5)}, "mrpc": {"f1": [None] * 50}}
    sides: list[list[Row]] = []
    for side in "ab":
        folder = tmp_path / side
        evaluated(folder, {"copa": values["copa"]})
        documents = {task: documents_of(of) for task, of in values.items()}
        write_documents(folder / "documents.parquet", [("m", documents)])
        kept = row("copa", "acc", float(np.mean(values["copa"]["acc"])), folder)
        sides.append([kept, row("mrpc", "f1", 0.7, folder), row("old", "acc", 0.5, folder)])
    sides[0][2]["folder"] = str(tmp_path / "moved away")
    changed = {**sides[1][0], "value": 0.9}
    why = side_by_side(sides[0], [changed, *sides[1][1:]]).not_paired
    assert {figure.task for figures in why.values() for figure in figures} == {
        *("copa", "mrpc", "old"),
    }
    reasons = {figures[0].task: reason for reason, figures in why.items()}
    assert "do not make the figure 0.9" in reasons["copa"]
    assert reasons["mrpc"] == "f1 is no mean over documents"
    assert "moved away/documents.parquet: gone with its run folder" in reasons["old"]
    (tmp_path / "b" / "documents.parquet").write_bytes(b"PAR1 torn")
    [reason] = side_by_side(sides[1][:1], sides[1][:1]).not_paired
    assert "not to be read" in reason
    (tmp_path / "b" / "documents.parquet").unlink()
    [reason] = side_by_side(sides[1][:1], sides[1][:1]).not_paired
    assert "documents.parquet: never written" in reason


def test_a_mean_of_other_tasks_than_todays_is_of_standard_errors(tmp_path: Path) -> None:
    sides = [core_of_olmo1(tmp_path / side, 0.0) for side in "ab"]
    found = [[*side[:-1], {**side[-1], "value": side[-1]["value"] + 1e-4}] for side in sides]
    why = side_by_side(*found).not_paired
    assert [figure.task for of in why.values() for figure in of] == ["olmo1_core"]
    assert "not the mean of the tasks of its suite" in next(iter(why))
    why = side_by_side(*(side[1:] for side in sides)).not_paired
    assert "olmo1_arc_challenge acc_uncond is not there" in next(iter(why))
