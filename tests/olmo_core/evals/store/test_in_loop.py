"""In-loop figures in the store: each once, of one training, whatever was killed or begun again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.evals.in_loop.labels import figure, labels
from olmo_core.evals.store.in_loop import record_in_loop, task_and_metric
from olmo_core.evals.store.read import Results, open_results
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from tests.olmo_core.evals.store.evaluations import checkpoint, evaluate
from tests.olmo_core.evals.store.runs import VERSION, train

COPA, LOSS = "eval/downstream/copa_acc", "eval/c4_en-validation/CrossEntropyLoss"
CONFIG = (
    "seed: 7\nglobal_train_batch_size: 4\nmodel: {max_sequence_length: 25}\n"
    "evaluators:\n- {label: copa, type: downstream}\n"
)


class Training:
    """A run folder whose metrics are written row by row; a step has 100 tokens."""

    def __init__(self, root: Path, asset: str = "stage1") -> None:
        self.path = root / "demo" / asset / VERSION
        self.now = 1_700_000_000.0
        self.attempt = 1
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.yaml").write_text(CONFIG)
        write_json(self.path / "launch.json", {"schema_version": 1, "fingerprint": "f" * 64})

    def step(self, step: int, *, tokens: int | None = None) -> None:
        """Log a step."""
        self._write({"step": step, "throughput/total_tokens": tokens or 100 * step})

    def evaluated(
        self, step: int, copa: float, *, loss: float | None = None, asked: str | None = "a"
    ) -> None:
        """Log an evaluation after a step."""
        figures = {COPA: copa} if loss is None else {COPA: copa, LOSS: loss}
        known = {"asked": dict.fromkeys(figures, asked), "documents": dict.fromkeys(figures, 50)}
        record = {"evaluated": ["copa"], "failed": {}, "seconds": 1.0, **(known if asked else {})}
        self._write({"step": step, **figures, "evaluation": record})

    def _write(self, row: dict[str, Any]) -> None:
        self.now += 10
        with (self.path / "metrics.jsonl").open("a") as metrics:
            line = json.dumps({**row, "attempt": self.attempt, "time": self.now})
            metrics.write(f"{line}\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def training(root: Path) -> Training:
    return Training(root)


def points(results: Results, view: str = "current") -> list[tuple[int, float]]:
    """Step and value of COPA."""
    sql = f"select step, value from {view} where task = 'in_loop_copa' order by all"
    return [(row["step"], row["value"]) for row in results.query(sql)]


def files(root: Path) -> list[Path]:
    return sorted((root / "results/demo/in_loop").glob("*.parquet"))


def test_a_row_says_what_was_asked_of_how_many_documents_and_after_how_many_tokens(
    root: Path, training: Training
) -> None:
    train(root, "stage1", 1000)
    training.step(2)
    training.evaluated(5, 0.5, loss=3.25)
    first, second = open_results(root).query("select * from current order by position")
    assert (first["task"], first["metric"], first["value"]) == ("in_loop_copa", "acc", 0.5)
    assert (second["task"], second["metric"], second["value"]) == (
        *("c4_en-validation", "loss", 3.25),
    )
    assert (first["recipe"], first["run"], first["seed"]) == ("demo", VERSION, 7)
    assert (first["model"], first["partition"], first["asset"]) == (
        *("stage1@step5", "stage1@step5", "in_loop"),
    )
    assert (first["step"], first["tokens"], first["tokens_in_all"], first["n"]) == (5, 500, 500, 50)
    assert first["finished"].timestamp() == pytest.approx(training.now)
    assert first["folder"] == str(training.path)
    assert first["task_sha256"] != second["task_sha256"]
    [path] = files(root)
    assert path.name.startswith(f"stage1@step5--{VERSION}--")


def test_tokens_follow_the_counter_of_a_run_that_went_on_with_another_s(
    root: Path, training: Training
) -> None:
    training.step(1007, tokens=40_000)
    training.evaluated(1010, 0.5)
    [row] = open_results(root).query("select tokens from current")
    assert row["tokens"] == 40_300


def test_what_was_evaluated_before_the_first_step_waits_for_it(
    root: Path, training: Training
) -> None:
    training.evaluated(5, 0.5)
    assert points(open_results(root)) == []
    training.step(6)
    assert points(open_results(root)) == [(5, 0.5)]


def test_a_run_at_work_is_read_again_and_again_and_nothing_is_twice(
    root: Path, training: Training
) -> None:
    training.step(1)
    for step in (5, 10, 15):
        training.evaluated(step, step / 100)
        for _ in range(2):
            results = open_results(root)
    assert points(results, "rows") == [(5, 0.05), (10, 0.1), (15, 0.15)]
    assert len(files(root)) == 3
    shutil.rmtree(root / "demo")
    assert points(open_results(root)) == [(5, 0.05), (10, 0.1), (15, 0.15)]


def test_a_step_that_was_done_again_has_two_evaluations_of_which_the_later_counts(
    root: Path, training: Training
) -> None:
    training.step(1)
    for step in (5, 10):
        training.evaluated(step, 0.1)
    open_results(root)
    for path in files(root):  # written when the rows were
        os.utime(path, (training.now, training.now))
    training.attempt = 2
    training.evaluated(10, 0.2)
    results = open_results(root)
    assert points(results) == [(5, 0.1), (10, 0.2)]
    assert points(results, "rows") == [(5, 0.1), (10, 0.1), (10, 0.2)]


@pytest.mark.parametrize("recorded", [False, True], ids=["read", "recorded"])
def test_both_evaluations_of_a_step_are_kept_though_the_store_is_looked_at_once(
    root: Path, training: Training, recorded: bool
) -> None:
    training.step(1)
    training.evaluated(10, 0.1)
    training.attempt = 2
    training.evaluated(10, 0.2)
    if recorded:  # as a training does at its end
        record_in_loop(RunFolder(training.path), root)
    results = open_results(root)
    assert points(results) == [(10, 0.2)]
    assert points(results, "rows") == [(10, 0.1), (10, 0.2)]


def test_a_training_in_another_place_is_of_no_store(
    root: Path, training: Training, tmp_path: Path
) -> None:
    training.step(1)
    training.evaluated(10, 0.1)
    for folder in (tmp_path / "elsewhere", root / "shallow"):
        shutil.copytree(training.path, folder)
        record_in_loop(RunFolder(folder), root)
    assert not list(root.glob("results/**/*.parquet"))


@pytest.mark.parametrize("how", ["deleted", "set aside"])
def test_a_training_that_began_again_in_the_same_folder_does_not_go_on_with_the_old_curve(
    root: Path, training: Training, how: str
) -> None:
    training.step(1)
    for step in (5, 10, 15):
        training.evaluated(step, 0.1)
    open_results(root)
    if how == "deleted":
        shutil.rmtree(training.path)
    else:
        aside = training.path / "replaced-1"
        aside.mkdir()
        (training.path / "metrics.jsonl").rename(aside / "metrics.jsonl")
    again = Training(root)
    again.now += 2_000_000_000  # later than the files, which are of today
    again.step(1)
    again.evaluated(5, 0.2)
    results = open_results(root)
    assert points(results) == [(5, 0.2)]
    assert len(points(results, "rows")) == 4


def test_rows_of_an_earlier_version_say_nothing_of_documents(
    root: Path, training: Training
) -> None:
    training.step(1)
    training.evaluated(5, 0.5, asked=None)
    [row] = open_results(root).query("select n, value from current")
    assert row == {"n": None, "value": 0.5}


def test_a_torn_row_and_one_without_a_figure_are_none(root: Path, training: Training) -> None:
    training.step(1)
    record = {"evaluated": [], "failed": {"copa": "OSError: gone"}, "seconds": 1.0}
    training._write({"step": 5, "evaluation": record})  # pyright: ignore[reportPrivateUsage]
    with (training.path / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 10, "evaluation": {"eval')
    results = open_results(root)
    assert (points(results), results.damaged) == ([], {})


def test_a_training_leaves_its_rows_when_it_ends(root: Path, training: Training) -> None:
    training.step(1)
    training.evaluated(5, 0.5)
    with Job.open(training.path, resumable=True) as job:
        job.finish(Report())
    assert len(files(root)) == 1


def test_a_run_without_evaluators_is_not_looked_at(root: Path, training: Training) -> None:
    text = CONFIG.partition("evaluators")[0] + "evaluators: []\n"
    (training.path / "config.yaml").write_text(text)
    (training.path / "metrics.jsonl").mkdir()  # reading it would fail
    assert open_results(root).damaged == {}


def test_a_damaged_file_is_written_anew_and_a_damaged_run_is_named(
    root: Path, training: Training
) -> None:
    training.step(1)
    training.evaluated(5, 0.5)
    open_results(root)
    [path] = files(root)
    path.write_bytes(path.read_bytes()[:-1])
    results = open_results(root)
    assert (points(results), results.damaged) == ([(5, 0.5)], {})
    training.evaluated(10, 0.5)
    later = path.stat().st_mtime + 60
    os.utime(training.path / "metrics.jsonl", (later, later))
    (training.path / "config.yaml").write_text("evaluators: {")
    results = open_results(root)
    assert [*results.damaged] == [training.path]
    assert str(training.path / "config.yaml") in results.damaged[training.path]
    assert points(results) == [(5, 0.5)]


def test_a_shared_root_is_read_and_never_written(
    root: Path, training: Training, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    theirs = Training(shared, "stage2")
    theirs.step(1)
    theirs.evaluated(5, 0.25)
    training.step(1)
    training.evaluated(5, 0.5)
    results = open_results(root, [shared])
    assert points(results, "rows") == [(5, 0.25), (5, 0.5)]
    assert not (shared / "results").exists()


def test_scores_of_the_same_checkpoint_stay_beside_it(root: Path, training: Training) -> None:
    evaluate(root, checkpoint(5))
    training.step(1)
    training.evaluated(5, 0.25)
    found = open_results(root).query("select asset, value from current order by asset")
    assert [(row["asset"], row["value"]) for row in found] == [
        *(("checkpoint_downstream", 0.5), ("in_loop", 0.25)),
    ]


def test_figures_have_the_names_of_their_tasks() -> None:
    for label, known in labels().items():
        assert task_and_metric(figure(label)) == (f"in_loop_{label}", known.metric)
    assert task_and_metric("eval/pile-validation/Perplexity") == (
        *("pile-validation", "perplexity_token"),
    )
    assert task_and_metric("eval/other/thing") == ("other/thing", "value")
