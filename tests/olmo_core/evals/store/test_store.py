"""The store of results: every figure once, whatever was killed, damaged, pruned or repeated."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.errors import InputError
from olmo_core.evals import rows
from olmo_core.evals.store import files as files_of_store
from olmo_core.evals.store.read import Results, open_results
from olmo_core.evals.store.schema import SCHEMA
from olmo_core.evals.store.write import content_digest, record
from olmo_core.run.folder import RunFolder
from tests.olmo_core.evals.store.evaluations import PARTS, checkpoint, evaluate, figure
from tests.olmo_core.evals.store.runs import train
from tests.processes import exit_codes


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr(files_of_store, "MOST_UNCACHED", 2)
    return tmp_path / "root"


def files(root: Path) -> list[Path]:
    return sorted((root / "results").rglob("*.parquet"))


def figures(results: Results, view: str = "current") -> list[tuple[str, str, float]]:
    """Model, task and value of all rows, sorted."""
    found = results.query(f"select model, task, value from {view} order by all")
    return [(row["model"], row["task"], row["value"]) for row in found]


def test_a_job_leaves_its_rows_and_all_that_would_repeat_them(root: Path) -> None:
    run = evaluate(root, checkpoint(7), figures=(figure(limit=100, sample_seed=3),))
    [path] = files(root)
    assert path.parent == root / "results/demo/checkpoint_downstream"
    assert path.name.startswith("stage1@step7--eeeeeeeeeeee--")
    [row] = open_results(root).query("select * from current")
    assert {name: row[name] for name in rows.SCHEMA.names} == rows.read_rows(
        run.path / "rows.parquet"
    )[0]
    assert row["asset"] == "checkpoint_downstream"
    assert (row["evaluated_for"], row["partition"]) == ("demo", "stage1@step7")
    assert row["folder"] == str(run.path)
    assert row["finished"].timestamp() == pytest.approx(run.read_result()["finished"], abs=1e-5)
    assert row["checkpoint_sha256"] == "manifest"
    assert json.loads(row["config"]) == {"batch_size": 8}
    assert json.loads(row["packages"]) == PARTS["packages"]
    assert (row["commit"], row["device"]) == ("c0ffee+", "cpu")
    assert len(row["task_sha256"]) == len(row["code_sha256"]) == 64


def test_a_row_of_the_store_begins_with_that_of_the_evaluation() -> None:
    assert [*SCHEMA][: len(rows.SCHEMA)] == [*rows.SCHEMA]


def test_equal_rows_are_one_file_and_of_two_files_they_are_shown_once(root: Path) -> None:
    run = evaluate(root, checkpoint(1))
    record(run, root)
    [path] = files(root)
    pq.write_table(pq.read_table(path), path.with_name("other"), compression="none")
    other = path.with_name("other").read_bytes()
    twin = path.with_name(f"stage1@step1--eeeeeeeeeeee--{content_digest(other)}.parquet")
    path.with_name("other").rename(twin)
    assert twin != path
    assert figures(open_results(root), "rows") == [("stage1@step1", "copa", 0.5)]


def _record_all(root: Path, start: Any) -> None:
    start.wait()
    for result in sorted(root.glob("demo/checkpoint_downstream/*/*/result.json")):
        record(RunFolder(result.parent), root)


def test_two_writers_at_once_leave_every_row_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_ROOT")
    for step in range(8):
        evaluate(root, checkpoint(step))
    assert files(root) == []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start = context.Barrier(2)
    writers = [context.Process(target=_record_all, args=(root, start)) for _ in range(2)]
    for writer in writers:
        writer.start()
    assert exit_codes(writers, 60) == [0, 0]
    assert len(files(root)) == 8
    assert [*(root / "results").rglob("*.partial")] == []
    assert len(figures(open_results(root), "rows")) == 8


def test_a_kill_between_write_and_rename_leaves_nothing_half_done(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_ROOT")
    run = evaluate(root, checkpoint(1))
    code = f"""
        import os, signal
        from pathlib import Path
        from olmo_core.evals.store.write import record
        from olmo_core.run.folder import RunFolder
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        record(RunFolder(Path({str(run.path)!r})), Path({str(root)!r}))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -9
    assert len([*(root / "results").rglob("*.partial")]) == 1
    assert files(root) == []
    results = open_results(root)  # finds that the run has finished, and its rows are not kept
    assert figures(results, "rows") == [("stage1@step1", "copa", 0.5)]
    assert results.damaged == {}
    assert len(files(root)) == 1


def test_what_the_run_folders_had_outlives_them(root: Path) -> None:
    evaluate(root, checkpoint(1))
    shutil.rmtree(root / "demo")
    assert figures(open_results(root)) == [("stage1@step1", "copa", 0.5)]


def test_a_later_evaluation_supersedes_an_earlier_one_whole(root: Path) -> None:
    evaluate(root, checkpoint(1), figures=(figure("copa", 0.1), figure("piqa", 0.2)))
    evaluate(root, checkpoint(1), figures=(figure("copa", 0.3),), version="eeeeeeeeeeee.2")
    evaluate(root, checkpoint(1, run="bbbbbbbbbbbb"), figures=(figure("copa", 0.4),), version="ff")
    evaluate(root, checkpoint(2), figures=(figure("copa", 0.5),))
    results = open_results(root)
    assert figures(results) == [
        ("stage1@step1", "copa", 0.3),
        ("stage1@step1", "copa", 0.4),  # of another run
        ("stage1@step2", "copa", 0.5),
    ]
    assert len(figures(results, "rows")) == 5


def test_a_run_made_again_in_its_folder_is_found(root: Path) -> None:
    run = evaluate(root, checkpoint(1), figures=(figure("copa", 0.1),))
    shutil.rmtree(run.path)
    [kept] = files(root)
    os.utime(kept, (1, 1))  # clocks are coarse
    os.environ.pop("OLMO_ROOT")
    evaluate(root, checkpoint(1), figures=(figure("copa", 0.2),))
    assert figures(open_results(root)) == [("stage1@step1", "copa", 0.2)]


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "torn" else content)


@pytest.mark.parametrize("how", ["flipped", "torn"])
@pytest.mark.parametrize("read_before", [False, True])
def test_a_damaged_file_is_named_and_the_others_are_read(
    how: str, read_before: bool, root: Path
) -> None:
    for step in range(4):
        evaluate(root, checkpoint(step))
    if read_before:
        assert open_results(root).damaged == {}
    shutil.rmtree(root / "demo")
    damaged = files(root)[2]
    _damage(damaged, how)
    for _ in range(2):  # every time, not only the first
        results = open_results(root)
        [(path, why)] = results.damaged.items()
        assert path == damaged
        assert str(path) in why
        assert "damaged" in why
        assert len(figures(results)) == 3
        with pytest.raises(InputError, match="damaged"):
            results.require_whole()


def test_a_damaged_file_is_written_anew_from_its_run_folder(root: Path) -> None:
    evaluate(root, checkpoint(1))
    [path] = files(root)
    before = path.read_bytes()
    _damage(path, "flipped")
    results = open_results(root)
    assert (results.damaged, len(figures(results))) == ({}, 1)
    assert path.read_bytes() == before


def test_rows_that_were_changed_after_the_job_are_not_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_ROOT")
    run = evaluate(root, checkpoint(1))
    rows.write_rows(run.path / "rows.parquet", [checkpoint(1).row(**figure(value=0.99))])
    results = open_results(root)
    assert figures(results, "rows") == []
    [why] = results.damaged.values()
    assert f"{run.path / 'rows.parquet'}: changed since it was made" in why


def test_a_shared_root_is_read_and_never_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(root, checkpoint(1))
    monkeypatch.delenv("OLMO_ROOT")
    shared = tmp_path / "shared"
    run = evaluate(shared, checkpoint(2))
    shutil.copytree(root, tmp_path / "copy")
    results = open_results(root, [shared, tmp_path / "copy"])
    assert figures(results, "rows") == [
        ("stage1@step1", "copa", 0.5),
        ("stage1@step2", "copa", 0.5),
    ]
    assert not (shared / "results").exists()
    [row] = results.query("select folder from rows where step = 2")
    assert row["folder"] == str(run.path)


def test_a_file_that_was_taken_away_is_gone(root: Path) -> None:
    for step in range(4):
        evaluate(root, checkpoint(step))
    assert len(figures(open_results(root))) == 4
    assert len([*(root / "cache/results").iterdir()]) == 1
    shutil.rmtree(root / "demo")
    files(root)[0].unlink()
    assert len(figures(open_results(root))) == 3


def test_figures_compare_where_what_is_asked_is_the_same(root: Path) -> None:
    def identity(step: int, **fields: object) -> str:
        parts = fields.pop("parts", PARTS)
        evaluate(root, checkpoint(step), figures=(figure(**fields),), parts=parts)  # pyright: ignore
        [row] = open_results(root).query("select task_sha256 from rows where step = ?", step)
        return row["task_sha256"]

    other = {**PARTS, "config": {"task_rows": {"copa": {"content": "{{question}}"}}}}
    newer = {**PARTS, "code": {}, "packages": {"python": "3.12"}}
    known = identity(1)
    assert identity(2, value=0.7) == identity(3, parts=newer) == known
    others = [identity(4, limit=40), identity(5, num_fewshot=5), identity(6, data_sha256="x")]
    others += [identity(7, sample_seed=1), identity(8, parts=other), identity(9, split="test")]
    assert len({known, *others}) == 7


def test_a_mean_compares_where_all_that_it_is_of_does(root: Path) -> None:
    def identity(step: int, *members: str, limit: int = 0) -> str:
        config = {**PARTS["config"], "averages": {"olmo1": [["copa"], [*members]]}}
        scored = [figure(member, limit=limit or None) for member in members]
        mean = {"task": "olmo1_all", "metric": "mean", "value": 0.5}
        evaluate(root, checkpoint(step), figures=(*scored, mean), parts={"config": config})
        sql = "select task_sha256 from rows where step = ? and metric = 'mean'"
        [row] = open_results(root).query(sql, step)
        return row["task_sha256"]

    both = identity(1, "copa", "piqa")
    assert identity(2, "copa", "piqa") == both
    assert len({both, identity(3, "copa"), identity(4, "copa", "piqa", limit=5)}) == 3


def write_as_before(path: Path) -> None:
    """Write a file of the store anew as an earlier version has written it."""
    earlier = pq.read_table(path).drop_columns(["tokens_before"])
    path.unlink()
    beside = path.with_name("beside")
    pq.write_table(earlier, beside, compression="zstd")
    *place, _ = path.name.split("--")
    beside.rename(
        path.with_name("--".join([*place, f"{content_digest(beside.read_bytes())}.parquet"]))
    )


@pytest.mark.parametrize("which", [slice(None), slice(2)])
def test_rows_of_an_earlier_version_are_read_and_completed_from_the_run_folder(
    root: Path, which: slice
) -> None:
    folder = train(root, "stage1", 1000)
    for step in range(4):
        evaluate(root, checkpoint(step), checkpoint_folder=folder)
    for path in files(root)[which]:
        write_as_before(path)
    for _ in range(2):  # the second time from the cache
        found = open_results(root).query("select tokens, tokens_in_all from rows order by step")
        assert [row["tokens_in_all"] for row in found] == [row["tokens"] for row in found]
    shutil.rmtree(root / "demo")
    found = open_results(root).query("select tokens_in_all from rows order by step")
    known = [row["tokens_in_all"] for row in found]
    assert (
        known
        == [None] * len(range(4)[which])
        + [1000 * step for step in range(4)][len(range(4)[which]) :]
    )


def test_a_cache_of_an_earlier_version_is_not_taken(root: Path) -> None:
    for step in range(4):
        evaluate(root, checkpoint(step))
    assert len(figures(open_results(root))) == 4
    [cache] = (root / "cache/results").iterdir()
    with pa.memory_map(str(cache)) as source:
        table = pa.ipc.open_file(source).read_all().drop_columns(["tokens_before"])
        kept = pa.BufferOutputStream()
        with pa.ipc.new_file(kept, table.schema) as file:
            file.write_table(table)
    cache.write_bytes(kept.getvalue())
    assert len(figures(open_results(root))) == 4
