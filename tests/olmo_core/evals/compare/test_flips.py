"""Which documents one of two models has right, against rows that are written out by hand."""

from pathlib import Path

import pytest

from olmo_core.evals.compare.flips import Flip, TaskFlips, flips
from olmo_core.evals.suites import BEST, MEAN
from tests.olmo_core.evals.compare.test_paired import Row, Values, evaluated, row

NAMES = ("before", "after")


def test_flips_are_counted_and_named_both_ways(tmp_path: Path) -> None:
    before = evaluated(tmp_path / "a", {"copa": {"acc": [1, 1, 0, 0, 1]}})
    after = evaluated(tmp_path / "b", {"copa": {"acc": [1, 0, 1, 0, 0]}})
    found, why = flips(NAMES, before, after)
    assert not why

    def flip(number: int, one: str, other: str) -> Flip:
        facts = {"document": 3 * number, "question": f"Question {number}?", "target": "yes"}
        return Flip(**facts, before=one, after=other)

    assert found == [
        TaskFlips(
            task="copa",
            metric="acc",
            documents=5,
            right_before=3,
            right_after=2,
            right_to_wrong=[flip(1, "yes", "no"), flip(4, "yes", "no")],
            wrong_to_right=[flip(2, "no", "yes")],
        )
    ]
    [other] = flips(NAMES, after, before)[0]
    assert [each.document for each in other.right_to_wrong] == [6]
    assert [each.document for each in other.wrong_to_right] == [3, 12]
    [same] = flips(NAMES, before, before)[0]
    assert not same.right_to_wrong
    assert not same.wrong_to_right


def test_what_has_no_answers_is_named_or_has_none_by_nature(tmp_path: Path) -> None:
    tasks: dict[str, Values] = {
        "piqa": {"bpb": [0.5, 1.5, 0.0, 2.0]},  # no document is right or wrong
        "copa": {"acc": [1, 0, 1, 1]},
    }
    before, after = evaluated(tmp_path / "a", tasks), evaluated(tmp_path / "b", tasks)
    texts = row("held_out", "bits_per_byte", 1.0, tmp_path / "a", asset="perplexity")
    mean = row("olmo1_core", MEAN, 0.5, tmp_path / "a")
    alone = row("boolq", "acc", 0.5, tmp_path / "a")
    old = row("sciq", "acc", 0.5, tmp_path / "gone")
    other = {**row("arc", "acc", 0.5, tmp_path / "a"), "split": "test"}
    asked = {"task_version", "num_fewshot", "limit", "limit_to", "sample_seed", "data_sha256"}
    other |= dict.fromkeys(asked)
    elsewhere = {**other, "task_sha256": "other", "split": "validation"}
    found, why = flips(
        NAMES, [*before, texts, mean, alone, old, other], [*after, mean, old, elsewhere]
    )
    assert [each.task for each in found] == ["copa"]
    assert why.pop(("boolq", "acc")) == "after was not scored on it"
    assert why.pop(("piqa", "bpb")) == "its documents are not right or wrong"
    assert "gone with its run folder" in why.pop(("sciq", "acc"))
    assert why.pop(("arc", "acc")) == "not asked in the same way: split test → validation"
    assert not why


def test_a_weight_is_right_and_the_better_of_two_forms_is_both(tmp_path: Path) -> None:
    """As a mean over subjects has weights; its answers say what is right."""

    def side(name: str, mc: list[float], rc: list[float]) -> list[Row]:
        tasks: dict[str, Values] = {
            "olmes_boolq_mc": {"acc": mc},
            "olmes_boolq_rc": {"acc": rc},
        }
        rows = evaluated(tmp_path / name, tasks, headline=False)
        best = max(each["value"] for each in rows)
        return [*rows, row("olmes_boolq", BEST, best, tmp_path / "unread", headline=True)]

    found, why = flips(NAMES, side("a", [1, 1, 0], [0, 0, 0]), side("b", [1, 0, 0], [0, 1, 1]))
    assert not why
    counts = {
        each.task: (len(each.right_to_wrong), len(each.wrong_to_right), each.right_after)
        for each in found
    }
    assert counts == {"olmes_boolq_mc": (1, 0, 1), "olmes_boolq_rc": (0, 2, 2)}
    weighted = [
        evaluated(tmp_path / name, {"mmlu": {"acc_macro": values}})
        for name, values in (("c", [1.0, 0.0, 0.0]), ("d", [0.0, 0.0, 1.0]))
    ]
    [of_mmlu], _ = flips(NAMES, *weighted)
    assert (len(of_mmlu.right_to_wrong), len(of_mmlu.wrong_to_right)) == (1, 1)


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_partial_credit_is_not_right(tmp_path: Path, value: float) -> None:
    sides = [evaluated(tmp_path / name, {"squad": {"overlap": [value, 0.0, 1.0]}}) for name in "ab"]
    found, why = flips(NAMES, *sides)
    assert not found
    assert why == {("squad", "overlap"): "its documents are not right or wrong"}
