"""The YAML files of lm-eval's tasks, read without lm-eval, so that a plan needs no torch."""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from olmo_core.config.paths import package_folder
from olmo_core.errors import InputError

# `task: name` of one task; a group's lists tasks
TASK = re.compile(rb"""^["']?task["']?: *["']?([\w.+-]+)["']? *(?:#.*)?$""", re.MULTILINE)
OURS = Path(__file__).parent / "tasks"


class Function(str):
    """What a file names by `!function module.name`."""


class _Loader(yaml.SafeLoader):
    """Reads `!function` as a text of its own kind."""


_Loader.add_constructor("!function", lambda loader, node: Function(node.value))


def read_task(path: Path) -> dict[str, Any]:
    """Return what a task's file says, the files that it includes merged as lm-eval does.

    Raises:
        InputError: the file, or one that it includes, is missing or no YAML mapping.
    """
    try:
        found = path.stat()
        content = dict(_parsed(path, found.st_size, found.st_mtime_ns))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: no task of lm-eval: {error}") from None
    includes = content.pop("include", [])
    merged: dict[str, Any] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        merged |= read_task(path.parent / name)
    return merged | content


@functools.cache  # a sweep asks for each of its checkpoints
def _parsed(path: Path, size: int, modified_ns: int) -> Mapping[str, Any]:
    content = _Loader(path.read_bytes()).get_single_data()  # it names bytes that are no text
    if not isinstance(content, dict):
        raise InputError(f"{path}: no task of lm-eval; expected a YAML mapping")
    return content


def functions(content: Any) -> Iterator[Function]:
    """Yield the functions that a task's file names, at any depth."""
    if isinstance(content, Function):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from functions(value)
    elif isinstance(content, list):
        for value in content:
            yield from functions(value)


def stock_task(name: str) -> Path | None:
    """Return the file of lm-eval's task of this name; None if it has none. Reads all files once."""
    return _stock_tasks().get(name)


@functools.cache
def _stock_tasks() -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted((package_folder("lm_eval") / "tasks").rglob("*.yaml")):
        named = TASK.search(path.read_bytes())
        if named:
            found.setdefault(named[1].decode(), path)
    return found
