"""What W&B has written to a disk: a log of records in LevelDB's format, in its own protobuf.

Source of the framing: https://github.com/google/leveldb/blob/main/doc/log_format.md, after a header
of seven bytes that begins with `:W&B`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32768


def records(path: Path) -> Iterator[Any]:
    """Yield W&B's records of a `.wandb` file."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, parts = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block is empty
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or its last part
            record: Any = wandb_internal_pb2.Record()  # pyright: ignore[reportAttributeAccessIssue]
            record.ParseFromString(parts)
            yield record
            parts = b""


def history(run: Path) -> list[dict[str, Any]]:
    """The rows that were logged in a run folder's W&B runs, session after session."""
    found: list[dict[str, Any]] = []
    for path in _files(run):
        for record in records(path):
            if record.HasField("history"):
                items = record.history.item
                found.append(
                    {
                        item.key or ".".join(item.nested_key): json.loads(item.value_json)
                        for item in items
                    }
                )
    return found


def axes(run: Path) -> dict[str, str]:
    """The metrics that are drawn over another one, in all sessions."""
    return {
        record.metric.glob_name or record.metric.name: record.metric.step_metric
        for path in _files(run)
        for record in records(path)
        if record.HasField("metric") and record.metric.step_metric
    }


def ids(run: Path) -> set[str]:
    """The ids of the W&B runs of a folder."""
    return {
        record.run.run_id
        for path in _files(run)
        for record in records(path)
        if record.HasField("run")
    }


def _files(run: Path) -> list[Path]:
    import wandb

    wandb.teardown()  # its process writes on for a moment when a run has finished
    found = run.glob("wandb/offline-run-*/*.wandb")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)
