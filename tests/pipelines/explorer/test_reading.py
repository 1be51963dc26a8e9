"""What is read of run folders: kept until a file changes, thinned, the last row of a step."""

import json
from pathlib import Path

from pipelines.explorer.files import kept
from pipelines.explorer.metrics import LOSS, MOST_POINTS, read_logged
from tests.pipelines.explorer.conftest import row


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    reads: list[str] = []

    @kept("a", "b")
    def read(path: Path) -> str:
        reads.append(path.name)
        return (path / "a").read_text()

    (tmp_path / "a").write_text("one")
    assert [read(tmp_path), read(tmp_path)] == ["one", "one"]
    assert len(reads) == 1
    (tmp_path / "a").write_text("two!")
    assert read(tmp_path) == "two!"
    (tmp_path / "b").write_text("")  # one that was not there
    read(tmp_path)
    assert len(reads) == 3


def test_so_many_are_kept(tmp_path: Path) -> None:
    reads: list[str] = []

    @kept(most=2)
    def read(path: Path) -> None:
        reads.append(path.name)

    for name in ("a", "b", "c", "b", "a"):
        read(tmp_path / name)
    assert reads == ["a", "b", "c", "a"]


def test_the_last_row_of_a_step_counts_and_evaluations_are_no_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    evaluation = {"step": 2, "eval/x/CrossEntropyLoss": 1.0, "evaluation": {}}
    again = row(2, **{LOSS: 5.0, "spike/loss": 0})
    rows = [row(1), row(2, **{"spike/loss": 1}), row(3), evaluation, again, row(3)]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    logged = read_logged(path)
    assert logged.steps == [1, 2, 3]
    assert logged.column(LOSS)[1] == 5.0
    assert logged.spikes == []
    assert logged.torn == 0


def test_a_long_run_is_thinned_and_its_spikes_stay(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    count = 3 * MOST_POINTS
    rows = (row(step, **{"spike/loss": int(step == 1234)}) for step in range(1, count + 1))
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    logged = read_logged(path)
    assert logged.logged == count
    assert len(logged.rows) <= MOST_POINTS + 1
    assert {1, 1234, count} <= set(logged.steps)
    assert logged.steps == sorted(logged.steps)


def test_what_is_no_number_is_no_point(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row(1)), json.dumps(row(2)).replace("8.8", "1e999"), json.dumps(row(3))]
    path.write_text("\n".join([*lines, ""]))
    assert read_logged(path).column(LOSS) == [8.9, None, 8.7]
    assert read_logged(tmp_path / "missing").rows == ()


def test_a_loss_that_is_nan_is_a_step_without_a_point(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [row(1), row(2, **{LOSS: float("nan")}), row(3)]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    logged = read_logged(path)
    assert logged.steps == [1, 2, 3]
    assert logged.column(LOSS)[1] is None
    assert logged.torn == 0
