"""Add the rows of finished evaluations to the store: beside, fsync, rename; no locks, no changes.

Writers never meet: each writes a file of its own, whose name is that of its content.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.config.load import load
from olmo_core.errors import InputError
from olmo_core.evals.store.schema import ASSETS, FOLDER, SCHEMA
from olmo_core.evals.store.tokens_behind import inputs_of, tokens_before
from olmo_core.files import sha256_file, write_atomic
from olmo_core.run.folder import RunFolder

ROWS = "rows.parquet"
DIGEST_LENGTH = 16  # of a file's SHA-256, in its name
SEPARATOR = "--"  # of the parts of a name, which none of them holds


def record(run: RunFolder, root: Path) -> Path | None:
    """Add the rows of a finished run to the store of its root; return the file that has them.

    Equal rows are one file, however often and by however many they are written. Returns None where
    the run is of no evaluation, or has been started by hand.

    Raises:
        FileNotFoundError: the run has not finished.
        InputError: the rows are not those that the run has written.
    """
    result = run.read_result()
    if result["asset"] not in ASSETS or not run.path.is_relative_to(root):
        return None
    names = [run.path.name]
    if result["partition"] is not None:
        names.insert(0, result["partition"])
    folder = root / FOLDER / result["recipe"] / result["asset"]
    return _write(folder, SEPARATOR.join(names), evaluation_table(run, root))


def write_rows(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows of an evaluation as a file of the store, whose name begins so; return it."""
    return _write(folder, name, pa.Table.from_pylist([*rows], schema=SCHEMA))


def _write(folder: Path, name: str, table: pa.Table) -> Path:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    path = folder / f"{name}{SEPARATOR}{content_digest(content)}.parquet"
    write_atomic(path, content)
    return path


def content_digest(content: bytes) -> str:
    """Return what the name of a file of this content ends in."""
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]


def evaluation_table(run: RunFolder, root: Path) -> pa.Table:
    """Return the rows of a finished evaluation with what they say of it: `SCHEMA`.

    Raises:
        InputError: the rows are not those that the run has written.
    """
    result, path = run.read_result(), run.path / ROWS
    recorded = result["files"].get(ROWS, {}).get("sha256")
    if not path.is_file() or sha256_file(path) != recorded:
        raise InputError(
            f"{path}: {'changed since it was made' if path.is_file() else 'gone'}, so its figures "
            "are not kept; copy it back, or move its run folder away and evaluate again"
        )
    launch = run.read(run.launch) or {}
    parts: Mapping[str, Any] = launch.get("parts") or {}
    code: Mapping[str, Any] = launch.get("code") or {}
    identity = {key: result[key] for key in ("recipe", "asset", "partition", "fingerprint")}
    facts = {
        "evaluation": sha256({**identity, "digest": result["digest"], "at": result["finished"]}),
        "evaluated_for": identity.pop("recipe"),
        **identity,
        "folder": str(run.path.relative_to(root)),
        "finished": datetime.datetime.fromtimestamp(result["finished"], datetime.UTC),
        "checkpoint_sha256": result["inputs"].get("checkpoint", {}).get("digest"),
        "config": _json(load(run.config).get("config")),
        "packages": _json(parts.get("packages", {})),
        "code_sha256": sha256(parts.get("code", {})),
        "commit": f"{code['commit']}{'+' * bool(code['dirty'])}" if code.get("commit") else None,
        "device": result.get("device"),  # results of before have none
    }
    figures = pq.read_table(path).to_pylist()
    tasks = task_identities(figures, parts)
    before = {model: _tokens_before(run.path, model) for model in {row["model"] for row in figures}}
    rows = [
        {
            **row,
            **facts,
            "task_sha256": tasks[row["task"]],
            "tokens_before": None if row["tokens"] is None else before[row["model"]],
        }
        for row in figures
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _tokens_before(evaluation: Path, model: str) -> int | None:
    """Return the tokens behind a model that its own counter leaves out; None: not known."""
    inputs = inputs_of(evaluation)
    if "checkpoint" in inputs:
        return tokens_before(inputs["checkpoint"].parents[1])
    exported = inputs_of(inputs["export"]) if "export" in inputs else {}
    return tokens_before(exported[model]) if model in exported else None


def task_identities(rows: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]) -> dict[str, str]:
    """Return a SHA-256 per task: what a score depends on beside the model, and where it ran.

    Of a task: its prompts with the code behind them, data, split, examples, and sample. Of a mean
    or of the better of two forms: of all that it is made of.

    Args:
        rows: All rows of one evaluation.
        parts: Of the evaluation's fingerprint, whose `config` says what the tasks ask.
    """
    config: Mapping[str, Any] = parts.get("config", {})
    asked: Mapping[str, Any] = config.get("task_rows", {})
    known: dict[str, str] = {}
    for row in rows:
        if row["task"] not in known:
            known[row["task"]] = sha256(
                {
                    **{name: row.get(name) for name in ("task_version", "data_sha256", "split")},
                    **{name: row.get(name) for name in ("num_fewshot", "limit", "limit_to")},
                    "sample_seed": row.get("sample_seed"),
                    "task": row["task"],
                    "prompts": asked.get(row["task"]),
                    "max_window": config.get("max_window"),
                }
            )
    composed = {
        row["task"]: [*_members(row, config, known)]
        for row in rows
        if row["metric"] in ("best", "mean") and row["task"] not in asked
    }
    # A mean may be of such that are the better of two forms: these first.
    for task, members in sorted(composed.items(), key=lambda each: len(each[1])):
        known[task] = sha256([task, *(known[member] for member in members)])
    return known


def _members(
    row: Mapping[str, Any], config: Mapping[str, Any], known: Mapping[str, str]
) -> Iterator[str]:
    """Yield the tasks that a row is made of."""
    task = row["task"]
    if row["metric"] == "best":
        yield from (each for each in sorted(known) if each.startswith(f"{task}_"))
        return
    suite, _, which = task.rpartition("_")
    core, everything = config.get("averages", {}).get(suite, ((), ()))
    yield from (each for each in (core if which == "core" else everything) if each in known)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def sha256(value: Any) -> str:
    """Return the digest of a value that is JSON-able."""
    return hashlib.sha256(_json(value).encode()).hexdigest()
