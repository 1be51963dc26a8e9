"""Training runs and soups as their jobs leave them, without a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.files import sha256_file, write_json
from olmo_core.run.folder import RunFolder

VERSION = "aaaaaaaaaaaa"


def train(
    root: Path,
    asset: str,
    tokens: int,
    *,
    step: int = 9,
    parent: Path | None = None,
    origin: int = 0,
    identity: Mapping[str, Any] | None = None,
    finished: bool = True,
) -> Path:
    """Leave a run with a checkpoint; `parent` is that of another run, which it names as its input.

    `identity` is what the run recorded of a parent that is no checkpoint of another run.
    """
    run = root / "demo" / asset / VERSION
    folder = run / f"checkpoints/step{step}"
    folder.mkdir(parents=True)
    began = None if identity is None else dict(identity)
    inputs: dict[str, Any] = {}
    if parent is not None:
        manifest = parent / "manifest.json"
        began = {
            "step": int(parent.name.removeprefix("step")),
            "manifest_sha256": sha256_file(manifest),
            "model_sha256": weights(parent.parents[1]),
        }
        place = {"root": "own", "path": str(parent.parents[1].relative_to(root))}
        inputs = {"parent": {"fingerprint": "f", "digest": "d", **place}}
    write_json(folder / "train.json", {"tokens": tokens, "parent": began, "origin": origin})
    write_json(folder / "manifest.json", {"step": step, "of": asset})
    end(run, inputs, {"tokens": tokens, "parent": began, "first_step": origin}, finished=finished)
    return folder


def soup(root: Path, ingredients: Mapping[Path, float], asset: str = "soup") -> Path:
    """Leave a soup of runs, each with its weight; return its run folder."""
    run = root / "demo" / asset / VERSION
    run.mkdir(parents=True)
    names = {folder.parent.name: folder for folder in ingredients}
    parents = [
        {"model": name, "tokens": _tokens(folder), "step": 9} for name, folder in names.items()
    ]
    shares = [*ingredients.values()]
    inputs = {
        name: {"root": "own", "path": str(folder.relative_to(root))}
        for name, folder in names.items()
    }
    own = sum(each["tokens"] for each, share in zip(parents, shares, strict=True) if share)
    end(run, inputs, {"tokens": own, "parents": parents, "weights": shares})
    return run


def end(
    run: Path, inputs: Mapping[str, Any], data: Mapping[str, Any], *, finished: bool = True
) -> None:
    """Write what says of a run what it read, and if it has finished its result."""
    partition = {"partition": None}
    write_json(run / "launch.json", {"schema_version": 1, **partition, "inputs": inputs})
    if finished:
        told = {"report": {"data": {**data, "model_sha256": weights(run)}}}
        write_json(run / "result.json", {"schema_version": 1, **told})


def weights(run: Path) -> str:
    """The digest of a run's last weights."""
    return f"weights of {run.parent.name}"


def _tokens(run: Path) -> int:
    return RunFolder(run).read_result()["report"]["data"]["tokens"]
