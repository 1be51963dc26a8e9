"""What a run has recorded of where it comes from: parent, weights, seeds, files no asset made."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from assets.lineage.ancestors import Ancestor, Input
from olmo_core.checkpoint.layout import MANIFEST, list_checkpoints
from olmo_core.errors import InputError
from olmo_core.run.code import TRAINING

RAW = "olmo_core.corpus.intake.raw"  # the module


@dataclass(frozen=True, kw_only=True)
class Parent:
    """From which weights a training started."""

    place: str  # path or URL of the checkpoint
    source: Input | None  # the run that they are of; None: no run of any graph has made them
    step: int | None
    digests: Mapping[str, Any]  # manifest_sha256, model_sha256 and the like, as recorded


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """One thing that text or tokens were read from, as far as it is recorded."""

    source: str
    place: str  # URL, path, package or dataset
    bytes: int | None = None
    sha256: str | None = None  # of all bytes
    parts_sha256: str | None = None  # of a few parts, where all would have taken hours
    is_list: bool = False  # it lists what was read


def started_from(run: Ancestor, step: int | None = None) -> Parent | None:
    """Return what a training started from; None: from first weights, or it is no training.

    Args:
        run: The training.
        step: Of the checkpoint that says it; by default the result does, else the newest.

    Raises:
        InputError: it has left neither a result nor a checkpoint that says it.
    """
    if run.identity.get("module") != TRAINING and "order" not in run.data:
        return None
    known = run.data.get("parent") if step is None and run.result else _at_checkpoint(run, step)
    if known is None:
        return None
    config = yaml.safe_load(run.run.config.read_text(encoding="utf-8"))
    place = str(config["load_path"])
    source = next((each for each in run.inputs if Path(place).is_relative_to(each.folder)), None)
    return Parent(
        place=place,
        source=source or _moved(run, place),
        step=known.get("step"),
        digests={key: value for key, value in known.items() if key != "step" and value},
    )


def _moved(run: Ancestor, place: str) -> Input | None:
    """Return the input whose checkpoint `place` is, where the root lies elsewhere by now."""
    return next((each for each in run.inputs if f"/{each.relative}/" in place), None)


def _at_checkpoint(run: Ancestor, step: int | None) -> Mapping[str, Any] | None:
    whole = [
        each
        for each in list_checkpoints(run.run.path)
        if (each.path / MANIFEST).is_file() and step in (None, each.step)
    ]
    if not whole:
        raise InputError(
            f"{run.run.path}: has no checkpoint yet, and from what it started is recorded with the "
            "first one"
        )
    return whole[-1].read_train()["parent"]


def ingredient_weights(run: Ancestor) -> dict[str, float]:
    """Return the weights of a soup by ingredient; empty of any other run."""
    if "weights" not in run.data:
        return {}
    parents = run.data["parents"]
    return {
        parent["model"]: weight for parent, weight in zip(parents, run.data["weights"], strict=True)
    }


def seeds(run: Ancestor) -> dict[str, int]:
    """Return every seed of a run's configuration by its dotted key."""
    return dict(_seeds(run.identity.get("config") or {}, ""))


def _seeds(value: Any, key: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for name, inner in cast(Mapping[str, Any], value).items():
            yield from _seeds(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, int) and key.rpartition(".")[2].endswith("seed"):
        yield key, value


def raw_files(run: Ancestor) -> list[RawFile]:
    """Return what a run has read that no asset made: a user's files, datasets, packages, URLs."""
    config: Mapping[str, Any] = run.identity.get("config") or {}
    files: Mapping[str, list[dict[str, Any]]] = config.get("files") or {}
    found = [
        RawFile(source=source, place=each["path"], bytes=each["bytes"], sha256=each["sha256"])
        for source, listed in files.items()
        for each in listed
    ]
    if run.identity.get("module") == RAW:  # a mix has `sources` too
        for named in config["sources"]:
            found += _named(named, config)
    published: Mapping[str, dict[str, Any]] = config.get("published_files") or {}
    for source, files_of in published.items():
        entries: list[dict[str, Any]] = files_of["files"]
        found += [
            RawFile(
                source=source,
                place=each.get("url") or each["name"],
                bytes=each.get("bytes"),
                parts_sha256=each.get("parts_sha256"),
            )
            for each in entries
        ]
    return found


def _named(source: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[RawFile]:
    """Yield what a source of `raw` names in place of files of a folder."""
    name, of = source["name"], functools.partial(RawFile, source=source["name"])
    versions: Mapping[str, str] = config.get("packages") or {}
    yield from (of(place=f"pkg:pypi/{each}@{versions[each]}") for each in source["packages"])
    if source.get("standard_library") or source.get("reader") == "pydoc_topics":
        yield of(place=f"pkg:generic/python@{config.get('python')}")
    if source.get("dataset"):
        patterns = ", ".join(source.get("data_files") or ()) or source.get("subset") or ""
        where = f"pkg:huggingface/datasets/{source['dataset']}@{source['revision']}"
        yield of(place=f"{where}#{patterns}" if patterns else where)
    for key in ("urls", "exclude_documents"):
        if source.get(key):
            yield of(place=source[key], sha256=config[key][name], is_list=True)
