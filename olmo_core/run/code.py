"""Which code makes a result, and its hashes: by module, and by function and class within each.

A job's code is its module and everything of `olmo_core` that it imports, without the packages in
`NEVER_COUNTS`. How a module is read, without docstrings and messages, is `olmo_core.run.source`'s.
"""

import contextlib
import functools
import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import olmo_core
from olmo_core import environment
from olmo_core.files import read_json, write_json
from olmo_core.run import source as rules
from olmo_core.run.source import Source, read_source

TRAINING = "olmo_core.train"  # the module of every training run, whatever the asset is called
PACKAGE_ROOT = Path(next(iter(olmo_core.__path__))).parent

# What a job reaches without deciding one byte of its result, each with the reason: packages and
# modules, and all that lies below them. Everything else that a job can reach counts.
NEVER_COUNTS: Mapping[str, str] = {
    "olmo_core.environment": "says where a job runs",
    "olmo_core.errors": "says what was refused; a job that is refused has no result",
    "olmo_core.files": "writes the bytes that it is given",
    "olmo_core.forecast": "says what a job will take; nothing that computes reads it",
    "olmo_core.monitor": "watches; nothing that it measures is read by what computes",
    "olmo_core.remote": "moves bytes",
    "olmo_core.run": "the frame of a job: folder, heartbeat, result, and this hash",
    "olmo_core.supervisor": "starts and restarts processes",
    "olmo_core.tasks": "does tasks side by side, and returns their results in the tasks' order",
    # A configuration is hashed by its values, however they were read.
    "olmo_core.config.bounds": "refuses values",
    "olmo_core.config.evaluators": "of in-loop evaluation, which changes nothing that is learned",
    "olmo_core.config.ingredients": "chooses values of a file",
    "olmo_core.config.interpolation": "reads values",
    "olmo_core.config.load": "reads values",
    "olmo_core.config.load_tree": "reads values",
    "olmo_core.config.official": "drops keys without meaning, refuses others",
    "olmo_core.config.paths": "says where a file lies; what is in it is part of the fingerprint",
    "olmo_core.config.placement": "keys that place or watch training; none is in its identity",
    "olmo_core.evals.store": "keeps figures that have been found",
    "olmo_core.evals.task_sources": "a table; rows that a job reads are part of its fingerprint",
    # A finished training has done the same steps, however often it was stopped and resumed.
    "olmo_core.train.__main__": "reads the command line; its imports are followed",
    "olmo_core.train.in_loop": "evaluates, and leaves weights, moments and random numbers alone",
    "olmo_core.train.cancel": "says when a run is stopped; a stopped run has no result",
    "olmo_core.train.saving": "says when a checkpoint is written and deleted, not what is in it",
    "olmo_core.checkpoint.mirror": "copies checkpoints elsewhere, and back by their digests",
    "olmo_core.data.check": "reads tokens before the first step, and refuses some",
    "olmo_core.data.content": "tells what a file that is no token file is, to refuse it",
    "olmo_core.parallel.patience": "says when a rank that waits for others fails",
    "olmo_core.train.host_memory": "keeps freed memory, says when Python collects garbage",
    # `load_path` may name these formats, but a recipe cannot: the graph starts from first weights
    # or from a checkpoint of ours.
    "olmo_core.checkpoint.weights_source": "reads formats that the graph never starts from",
    "olmo_core.checkpoint.olmo_source": "reads a format that the graph never starts from",
}


def code_hashes(module: str, *, now: bool = False) -> dict[str, str]:
    """Return a hash per module that counts: as this process first saw them, or as they are now."""
    found = sources_now(module) if now else sources(module)
    return {name: source.hash for name, source in found.items()}


def code_digest(*modules: str, now: bool = False) -> str:
    """Return one hash of all the code that these modules reach."""
    hashes = {k: v for module in modules for k, v in code_hashes(module, now=now).items()}
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def counts(module: str) -> bool:
    """Return whether a module can decide a result: it lies in none of `NEVER_COUNTS`."""
    parts = module.split(".")
    return not any(".".join(parts[:end]) in NEVER_COUNTS for end in range(1, len(parts) + 1))


def sources_now(module: str) -> dict[str, Source]:
    """Return the modules of `olmo_core` that count for what `python -m module` makes, by name."""
    found: dict[str, Source] = {}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        asked = waiting.pop()
        name, path = _file_of(asked)
        if path is None or name in seen or not (asked == module or counts(name)):
            continue
        seen.add(name)
        source = _read(path, path.stat().st_mtime_ns)
        if counts(name):
            found[name] = source
        waiting.extend(source.imports)
    return dict(sorted(found.items()))


# As this process first saw them, so that it never judges one result by two versions.
sources = functools.cache(sources_now)


def _file_of(name: str) -> tuple[str, Path | None]:
    """Return the full name and the file of `name`; no file for a name inside a module."""
    base = os.path.join(PACKAGE_ROOT, *name.split("."))  # a Path takes four times as long
    for full, path in ((name, f"{base}.py"), (f"{name}.__main__", f"{base}/__main__.py")):
        if os.path.isfile(path):
            return full, Path(path)
    return name, None


@functools.cache
def _read(path: Path, modified_ns: int) -> Source:
    """Return what a module is, from the cache where this very content has been parsed before."""
    content = path.read_bytes()
    digest = hashlib.sha256(_rules() + content).hexdigest()
    try:
        cached = environment.cache() / "code" / f"{digest}.json"
    except RuntimeError:  # no home folder, as of a container's bare user id
        return read_source(content, counts, name=str(path))
    # An entry that is missing or damaged is made again.
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = read_json(cached)
        return Source(definitions=dict(kept["definitions"]), imports=tuple(kept["imports"]))
    source = read_source(content, counts, name=str(path))
    with contextlib.suppress(OSError):  # a home that cannot be written: parsed again next time
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_json(cached, asdict(source), durable=False)
    return source


@functools.cache
def _rules() -> bytes:
    """Return what decides how a module is read, besides its content."""
    files = b"".join(Path(str(file)).read_bytes() for file in (__file__, rules.__file__))
    return hashlib.sha256(platform.python_version().encode() + files).digest()
