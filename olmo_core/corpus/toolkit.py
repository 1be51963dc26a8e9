"""Drive the dolma toolkit, which lives in an environment of its own, as a process.

Its exit codes are not evidence (docs/corpus.md): what a step wrote is held against what it read,
row for row, by `marked_files`.
"""

import functools
import json
import os
import subprocess
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from olmo_core import environment
from olmo_core.corpus import toolkit_worker
from olmo_core.corpus.document import Document, read_attributes, read_documents, shards
from olmo_core.errors import ConfigError, InputError

CHECKOUT = Path(__file__).resolve().parents[2]
LOG_TAIL_LINES = 20

# A document and what each of the attribute files beside it says of it, in their order.
Marked = tuple[Document, list[dict[str, Any]]]


class ToolkitError(RuntimeError):
    """The toolkit failed, or wrote something other than what it was asked for."""


@dataclass(frozen=True, kw_only=True)
class ToolkitCommand:
    """One call of the toolkit; paths in `config` are relative to the plan's folder."""

    name: str  # unique in a plan; also the name of its log
    kind: Literal["tag", "deduper", "mixer"]
    config: Mapping[str, Any]


def toolkit_python() -> Path:
    """Return the interpreter of the environment that holds dolma.

    Raises:
        ConfigError: it is missing; the message says where it was looked for.
    """
    named = environment.dolma_python()
    python = Path(named) if named else CHECKOUT / ".venv-dolma" / "bin" / "python"
    if not python.is_file():
        raise ConfigError(
            f"{python}: no Python of the dolma toolkit; `make setup` creates .venv-dolma, or set "
            f"{environment.DOLMA_PYTHON} (now {named or 'not set'}) to a Python that imports dolma"
        )
    return python


@functools.cache
def toolkit_identity() -> dict[str, str]:
    """Return name and version of the toolkit, without importing it; for the fingerprint.

    Raises:
        ConfigError: its environment is missing, or holds no dolma.
    """
    python = toolkit_python()
    asked = "import importlib.metadata as m; print(m.version('dolma'))"
    done = subprocess.run(
        [str(python), "-I", "-c", asked], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConfigError(f"{python}: dolma is not installed there; `make setup` installs it")
    return {"dolma": done.stdout.strip()}


def run_steps(
    stages: Sequence[Sequence[ToolkitCommand]],
    folder: Path,
    *,
    processes: int,
    taggers: Mapping[str, Any] | None = None,
) -> None:
    """Run stages of steps in one toolkit process; the steps of a stage side by side.

    Args:
        stages: Steps by stage; a stage begins when the one before has ended.
        folder: Working folder; `documents/` and `attributes/` lie below `folder/<view>/`. Paths
            stay relative, because the toolkit replaces every `/documents/` in a path.
        processes: Steps at a time.
        taggers: What `Taggers.plan` says of those that are not the toolkit's own.

    Raises:
        ConfigError: the toolkit's environment is missing.
        ToolkitError: a step failed or did not end; with the end of the log.
    """
    log = folder / "log" / "worker.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    plan = {
        "parent": os.getpid(),
        "folder": str(folder.absolute()),
        "processes": processes,
        "taggers": taggers or {},
        "stages": [[asdict(step) for step in stage] for stage in stages],
    }
    # -I: neither PYTHON… variables nor this folder's module names reach the toolkit.
    command = [str(toolkit_python()), "-I", str(toolkit_worker.__file__)]
    with log.open("w", encoding="utf-8") as errors:
        # Whatever is raised here ends it, and its children die with it.
        worker = subprocess.run(
            command, input=json.dumps(plan), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    missing = {step.name for stage in stages for step in stage} - set(worker.stdout.splitlines())
    if worker.returncode != 0 or missing:
        tail = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        ended = f"the dolma toolkit exited {worker.returncode}; not done: {sorted(missing)}"
        raise ToolkitError("\n".join([ended, *tail]))


def marked_files(documents: Path, *attributes: Path) -> list[tuple[Path, Generator[Marked]]]:
    """Return the rows of each document file with its attributes, by the file's relative path.

    Rows are read, and checked against each other, as they are taken.

    Args:
        documents: A folder of document files.
        attributes: Folders with one attribute file per document file, and nothing else.

    Raises:
        ToolkitError: a missing or additional file. From the rows: one too few or too many, or an
            id that differs.
        InputError: from the rows: a file is damaged.
    """
    names = [path.relative_to(documents) for path in shards(documents)]
    for folder in attributes:
        found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        if set(names) != found:
            raise ToolkitError(
                f"{folder}: missing {sorted(map(str, set(names) - found))}, not expected "
                f"{sorted(map(str, found - set(names)))}; expected one file per document file (a "
                "temporary one is left over where the toolkit did not finish)"
            )
    return [(n, marked_rows(documents / n, *(folder / n for folder in attributes))) for n in names]


def marked_rows(documents: Path, *attributes: Path) -> Generator[Marked]:
    """Yield the rows of one document file, each with its row of every attribute file.

    Raises:
        ToolkitError: one row too few or too many, or an id that differs.
        InputError: a file is damaged.
    """
    rows: Any = zip_longest(read_documents(documents), *map(read_attributes, attributes))
    for line_number, (document, *marks) in enumerate(rows, start=1):
        for path, row in zip(attributes, marks, strict=True):
            if (row and row[0]) == (document and document.id):
                continue
            if not document:
                raise ToolkitError(f"{path}: more rows than the {line_number - 1} of {documents}")
            found = f"id {row[0]!r}" if row else "no row"
            raise ToolkitError(
                f"{path}:{line_number}: found {found}; expected id {document.id!r} as in "
                f"{documents}"
            )
        yield document, [row[1] for row in marks]


def joined(name: str, marks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return all that is said of the document `name`, by the names of attributes.

    Raises:
        InputError: two say something under the same name; the toolkit would take either.
    """
    attributes: dict[str, Any] = {}
    for mark in marks:
        if twice := attributes.keys() & mark.keys():
            raise InputError(
                f"document {name!r}: attribute {min(twice)!r} is written by two; expected one: "
                "take its folder off the source's `attributes`, or its tagger off `tagged`"
            )
        attributes.update(mark)
    return attributes


def link_view(folder: Path, targets: Mapping[str, Path]) -> None:
    """Make the tree of `documents/` and `attributes/` that the toolkit wants, of links."""
    for name, target in targets.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.absolute())
