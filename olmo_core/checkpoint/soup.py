"""Average ingredient weights into one model; refuses unequal keys, shapes and dtypes.

Run as `python -m olmo_core.checkpoint.soup RUN_FOLDER/config.yaml`. The sum is taken in f64 and
rounded once, one tensor in memory at a time; the bytes depend on nothing but the ingredients.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from olmo_core.checkpoint.tensor_file import TensorFile, round_once, write_tensors
from olmo_core.config.load import load
from olmo_core.config.release import SoupConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file, write_atomic, write_json
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report

SAMPLED_VALUES = 1 << 20  # of one tensor, for the distances that the report shows


def average(
    files: Sequence[TensorFile], name: str, weights: Sequence[float] | None = None
) -> np.ndarray:
    """The (weighted) mean of one tensor over files, in f64 and in the tensor's shape."""
    total = np.zeros(files[0].tensors[name].shape, np.float64)
    for i, file in enumerate(files):
        values = file.float64(name)
        if weights is not None:
            values *= weights[i]
        total += values
    return total if weights is not None else total / len(files)


def require_equal_tensors(files: Mapping[str, TensorFile]) -> None:
    """Refuse ingredients that differ in more than their values.

    Raises:
        InputError: names the models and up to five keys that are missing or differ.
    """
    (first_name, first), *others = files.items()
    for other_name, other in others:
        problems = [
            f"{key} is only in {first_name}" for key in first.tensors.keys() - other.tensors
        ]
        problems += [
            f"{key} is only in {other_name}" for key in other.tensors.keys() - first.tensors
        ]
        for key in first.tensors.keys() & other.tensors.keys():
            mine, theirs = first.tensors[key], other.tensors[key]
            if mine != theirs:
                problems.append(
                    f"{key} is {mine.dtype} {list(mine.shape)} in {first_name} and "
                    f"{theirs.dtype} {list(theirs.shape)} in {other_name}"
                )
        if problems:
            more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise InputError(
                f"{first_name} and {other_name} cannot be averaged: "
                f"{'; '.join(sorted(problems)[:5])}{more}"
            )


def ingredient_order(names: Sequence[str]) -> list[str]:
    """Ingredients by number (10 after 9), so that the sum does not depend on who lists them."""

    def key(name: str) -> tuple[str, int]:
        digits = re.search(r"\d+$", name)
        return (name[: digits.start()], int(digits[0])) if digits else (name, 0)

    return sorted(names, key=key)


def make(config: SoupConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Average the models of all inputs into `model/`."""
    names = ingredient_order(list(inputs))
    if len(names) < 2:
        raise ConfigError(f"soup: it needs two ingredients or more, found {names}")
    weights = config.weights
    if weights is not None and len(weights) != len(names):
        raise ConfigError(f"soup.weights: {len(weights)} weights for {len(names)} ingredients")
    files = {name: TensorFile(inputs[name] / "model" / "model.safetensors") for name in names}
    require_equal_tensors(files)
    architecture = _common_architecture({name: inputs[name] for name in names})
    ordered = list(files.values())
    squared = dict.fromkeys(names, 0.0)
    done, total = 0, sum(spec.size_bytes for spec in ordered[0].tensors.values())

    def averaged(name: str) -> bytes:
        nonlocal done
        mean = average(ordered, name, weights)
        spec = ordered[0].tensors[name]
        for ingredient, file in files.items():
            squared[ingredient] += _squared_distance(file.float64(name), mean)
        done += spec.size_bytes
        job.progress(done, total, unit="bytes", message=name)
        return round_once(mean, spec.dtype)

    with job.timed("average"):
        write_tensors(job.folder / "model" / "model.safetensors", ordered[0].tensors, averaged)
    parents = [_parent(name, inputs[name]) for name in names]
    shares = weights or [1 / len(names)] * len(names)
    write_json(
        job.folder / "model" / "parents.json",
        [{**parent, "weight": share} for parent, share in zip(parents, shares, strict=True)],
    )
    write_atomic(
        job.folder / "model" / "config.yaml", yaml.safe_dump(architecture, sort_keys=False)
    )
    return _report(job.folder, parents, shares, squared, ordered[0])


def _report(
    folder: Path,
    parents: Sequence[Mapping[str, Any]],
    shares: Sequence[float],
    squared: Mapping[str, float],
    first: TensorFile,
) -> Report:
    steps = {parent["step"] for parent in parents}
    tokens = [parent["tokens"] for parent in parents]
    data = {
        "model_sha256": sha256_file(folder / "model" / "model.safetensors"),
        # The step means something only where all ingredients stopped at the same one.
        "step": steps.pop() if len(steps) == 1 else None,
        "tokens": sum(tokens) if None not in tokens else None,
        "parents": list(parents),
        "weights": list(shares),
    }
    rows = [
        {
            "model": parent["model"],
            "weight": round(share, 6),
            "step": parent["step"],
            "tokens": parent["tokens"],
            "distance_to_soup": round(squared[parent["model"]] ** 0.5, 6),
            "sha256": parent["sha256"][:12],
        }
        for parent, share in zip(parents, shares, strict=True)
    ]
    specs = first.tensors.values()
    return Report(
        numbers={
            "ingredients": len(parents),
            "tensors": len(first.tensors),
            "parameters": sum(int(np.prod(spec.shape)) for spec in specs),
            "model_bytes": (folder / "model" / "model.safetensors").stat().st_size,
        },
        tables={"ingredients": rows},
        data=data,
    )


def _squared_distance(values: np.ndarray, mean: np.ndarray) -> float:
    """Sum of squared differences, estimated from a regular sample where the tensor is large."""
    stride = max(1, values.size // SAMPLED_VALUES)
    difference = values.reshape(-1)[::stride] - mean.reshape(-1)[::stride]
    return float(np.dot(difference, difference)) * stride


def _common_architecture(folders: Mapping[str, Path]) -> dict[str, Any]:
    """The `model` section that all ingredients share: what the soup's `config.yaml` says."""
    sections = {
        name: load(folder / "model" / "config.yaml").get("model")
        for name, folder in folders.items()
    }
    (first_name, first), *others = sections.items()
    if not isinstance(first, Mapping):
        raise InputError(f"{first_name}: model/config.yaml has no section `model`")
    for name, section in others:
        differing = sorted(
            key
            for key in {*first, *(section or {})}
            if first.get(key) != (section or {}).get(key) and not key.startswith("init_")
        )
        if differing:
            raise InputError(
                f"{first_name} and {name} differ in model.{differing[0]}: "
                f"{first.get(differing[0])!r} and {(section or {}).get(differing[0])!r}"
            )
    return {"model": _plain(first)}


def _plain(value: Any) -> Any:
    """A YAML tree as plain dicts and lists, which the safe writer takes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _parent(name: str, folder: Path) -> dict[str, Any]:
    """What is recorded of an ingredient: no path, only what identifies it anywhere."""
    data = RunFolder(folder).read_result()["report"]["data"]
    weights = folder / "model" / "model.safetensors"
    digest = sha256_file(weights)
    if digest != data.get("model_sha256", digest):
        raise InputError(f"{weights}: not the weights that the run ended with; make {name} again")
    return {
        "model": name,
        "sha256": digest,
        "step": data.get("step"),
        "tokens": data.get("tokens"),
        # The model that it was trained from, which all ingredients of a soup should share.
        "parent_sha256": (data.get("parent") or {}).get("model_sha256"),
    }


if __name__ == "__main__":
    run_job(SoupConfig, make)
