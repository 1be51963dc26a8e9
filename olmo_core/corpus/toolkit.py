"""Drive the dolma toolkit, which lives in an environment of its own, as a process.

Its exit codes are not evidence (docs/corpus.md): what a step wrote is checked against what it read
by `check_mirror`, and the callers count.
"""

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from olmo_core import environment
from olmo_core.corpus import toolkit_worker
from olmo_core.corpus.document import read_attributes, read_documents
from olmo_core.corpus.rows import write_rows
from olmo_core.errors import ConfigError
from olmo_core.run.job import Job
from olmo_core.tasks.map import Task, map_tasks

CHECKOUT = Path(__file__).resolve().parents[2]
LOG_TAIL_LINES = 15
# Of steps. Each imports the toolkit once, for seconds; each is done again if its process is lost.
CHUNKS_PER_PROCESS = 4  # where nodes share the work
CHUNK_BYTES = 32_000_000  # of compressed documents, on one machine


class ToolkitError(RuntimeError):
    """The toolkit failed, or wrote something other than what it was asked for."""


@dataclass(frozen=True, kw_only=True)
class ToolkitCommand:
    """One call of the toolkit; paths in `config` are relative to the plan's folder."""

    name: str  # unique in a plan; also the name of its log
    kind: Literal["tag", "dedupe", "mix"]
    config: Mapping[str, Any]


def toolkit_python() -> Path:
    """The interpreter of the environment that holds dolma.

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
    """Name and version of the toolkit that is driven, without importing it; for the fingerprint.

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
) -> None:
    """Run stages of steps in one toolkit process; the steps of a stage side by side.

    Args:
        stages: Steps by stage; a stage begins when the one before has ended.
        folder: Working folder; `documents/` and `attributes/` lie below `folder/<view>/`. Paths
            stay relative, because the toolkit replaces every `/documents/` in a path.
        processes: Steps at a time.

    Raises:
        ConfigError: the toolkit's environment is missing.
        ToolkitError: a step failed; with the end of its log.
    """
    logs = folder / "log"
    logs.mkdir(parents=True, exist_ok=True)
    plan = {
        "parent": os.getpid(),
        "folder": str(folder.absolute()),
        "processes": processes,
        "stages": [
            [{**asdict(step), "log": f"log/{step.name}.log"} for step in stage] for stage in stages
        ],
    }
    worker_log = logs / "worker.log"
    # -I: neither PYTHON… variables nor this folder's module names reach the toolkit.
    command = [str(toolkit_python()), "-I", str(toolkit_worker.__file__)]
    with worker_log.open("w", encoding="utf-8") as errors:
        # Whatever is raised here ends it, and its children die with it.
        worker = subprocess.run(
            command, input=json.dumps(plan), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    reports = [json.loads(line) for line in worker.stdout.splitlines()]
    done: dict[str, int] = {report["name"]: report["exit"] for report in reports}
    for name, code in done.items():
        if code != 0:
            raise ToolkitError(f"dolma step {name} exited {code}:\n{_tail(logs / f'{name}.log')}")
    missing = {step.name for stage in stages for step in stage} - set(done)
    if worker.returncode != 0 or missing:
        raise ToolkitError(
            f"the dolma toolkit exited {worker.returncode} before steps {sorted(missing)}:\n"
            f"{_tail(worker_log)}"
        )


def map_steps(
    steps: Sequence[ToolkitCommand],
    documents: Path,
    job: Job,
    *,
    sizes: Mapping[str, int],
    reads: str,
) -> list[Path]:
    """Run steps in chunks, each a task; return the chunks' working folders.

    Args:
        steps: Tagging steps, the longest first.
        documents: What `view/documents` in each working folder leads to.
        job: Whose tasks they are.
        sizes: Bytes of document files by step.
        reads: The digest of the documents.

    Raises:
        ConfigError, ToolkitError: as `run_steps`.
    """
    if job.workers:
        wanted = CHUNKS_PER_PROCESS * job.processes * (1 + job.workers)
    else:
        wanted = 1 + sum(sizes.values()) // CHUNK_BYTES
    number = min(len(steps), wanted)
    tasks = [
        Task(
            name=f"tag {chunk + 1} of {number}",
            reads=reads,
            output=job.scratch / "chunks" / f"{chunk:04d}",
            call=partial(
                run_chunk,
                steps[chunk::number],  # each has long steps and short ones
                documents,
                1 if number > 1 else job.processes,
            ),
        )
        for chunk in range(number)
    ]

    done = 0

    def on_done(count: int, latest: Sequence[str]) -> None:
        nonlocal done
        done += sum(sizes[name] for name in latest)
        job.progress(done, sum(sizes.values()), unit="bytes", message=latest[-1])

    map_tasks(tasks, job, on_done=on_done)
    return [task.output for task in tasks]


def run_chunk(
    steps: Sequence[ToolkitCommand], documents: Path, processes: int, out: Path
) -> list[str]:
    """Run steps in a toolkit process of their own, in the folder `out`; return their names."""
    link_view(out / "view", documents=documents)
    run_steps([steps], out, processes=processes)
    return [step.name for step in steps]


def _tail(log: Path) -> str:
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def check_mirror(documents: Path, attributes: Path) -> None:
    """Check that attributes stand row for row beside their documents, and nothing else does.

    Raises:
        ToolkitError: a left-over temporary file, a missing or additional file, a row too few or too
            many, or an id that differs.
        InputError: a file of either side is damaged.
    """
    check_no_leftovers(attributes)
    wanted = {path.relative_to(documents) for path in documents.rglob("*.jsonl.gz")}
    found = {path.relative_to(attributes) for path in attributes.rglob("*") if path.is_file()}
    if wanted != found:
        raise ToolkitError(
            f"{attributes}: missing {sorted(map(str, wanted - found))}, not expected "
            f"{sorted(map(str, found - wanted))}; expected one file per document file"
        )
    for name in sorted(wanted):
        check_rows(documents / name, attributes / name)


def check_rows(documents: Path, attributes: Path) -> None:
    """Check one attribute file against its document file: as many rows, the same ids.

    Raises:
        ToolkitError: they differ; with the line.
        InputError: either file is damaged.
    """
    rows = 0
    others = read_attributes(attributes)
    for line_number, document in read_documents(documents):
        row = next(others, None)
        rows = line_number
        if row is None or row[1] != document.id:
            found = "no row" if row is None else f"id {row[1]!r}"
            raise ToolkitError(
                f"{attributes}:{line_number}: found {found}; expected id {document.id!r} as in "
                f"{documents}"
            )
    if next(others, None) is not None:
        raise ToolkitError(f"{attributes}: more rows than the {rows} of {documents}")


def check_no_leftovers(folder: Path) -> None:
    """Refuse a folder in which the toolkit left temporary files: it ended before its work did.

    Raises:
        ToolkitError: naming them.
    """
    left = sorted(str(path) for path in folder.rglob("*.tmp*"))
    if left:
        raise ToolkitError(f"left-over temporary files {left}; the toolkit did not finish")


def link_view(folder: Path, **parts: Path) -> None:
    """Make the tree that the toolkit wants: `documents/` and `attributes/<name>/` as links.

    Args:
        folder: The view to create.
        parts: `documents` and any attribute experiments, by name.
    """
    (folder / "attributes").mkdir(parents=True, exist_ok=True)
    for name, target in parts.items():
        link = folder / "documents" if name == "documents" else folder / "attributes" / name
        link.symlink_to(target.absolute(), target_is_directory=True)


def rewrite_attributes(source: Path, target: Path) -> None:
    """Copy attributes in our deterministic gzip (the toolkit's holds the time it was written)."""
    for path in sorted(source.rglob("*.jsonl.gz")):
        write_rows(
            target / path.relative_to(source),
            (
                {"id": document_id, "attributes": attributes}
                for _, document_id, attributes in read_attributes(path)
            ),
        )
