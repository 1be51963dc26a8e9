"""Average ingredient weights into one model; refuses unequal keys, shapes and dtypes.

Run as `python -m olmo_core.checkpoint.soup RUN_FOLDER/config.yaml`. The sum is taken in f64 and
rounded once, one tensor in memory at a time; the bytes depend on nothing but the ingredients.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from olmo_core.checkpoint.tensor_file import NUMPY, TensorFile, TensorSpec, write_tensors
from olmo_core.config.load import load, to_dict
from olmo_core.config.release import SoupConfig
from olmo_core.errors import ConfigError, InputError, listed
from olmo_core.files import sha256_file, write_atomic, write_json
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report

SAMPLED_VALUES = 1 << 20  # of one tensor, for the distances that the report shows


def average(
    files: Sequence[TensorFile], name: str, weights: Sequence[float] | None = None
) -> np.ndarray:
    """Return the (weighted) mean of one tensor over files, in f64 and in the tensor's shape."""
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
    (first_name, first), *others = ((name, file.tensors) for name, file in files.items())
    for other_name, other in others:
        problems: list[str] = []
        for key in first.keys() | other.keys():
            if key not in other or key not in first:
                problems.append(f"{key} is only in {first_name if key in first else other_name}")
            elif first[key] != other[key]:
                problems.append(
                    f"{key} is {first[key]} in {first_name} and {other[key]} in {other_name}"
                )
        if problems:
            raise InputError(
                f"{first_name} and {other_name} cannot be averaged: {listed(problems, '; ')}"
            )


def ingredient_order(names: Sequence[str]) -> list[str]:
    """Sort ingredients by number (10 after 9): the sum does not depend on who lists them."""

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
    for tensor in (first := files[names[0]]).tensors:
        first.require_numpy(tensor)
    architecture = _common_architecture({name: inputs[name] for name in names})
    ordered = list(files.values())
    specs = ordered[0].tensors
    squared = dict.fromkeys(names, 0.0)
    done, total = 0, sum(spec.size_bytes for spec in specs.values())

    def averaged(name: str) -> bytes:
        nonlocal done
        mean = average(ordered, name, weights)
        for ingredient, file in files.items():
            squared[ingredient] += _squared_distance(file.float64(name), mean)
        done += specs[name].size_bytes
        job.progress(done, total, unit="bytes", message=name)
        return mean.astype(NUMPY[specs[name].dtype]).tobytes()

    model = job.folder / "model"
    with job.timed("average"):
        write_tensors(model / "model.safetensors", specs, averaged)
    shares = list(weights or [1 / len(names)] * len(names))
    parents = [_parent(name, inputs[name]) for name in names]
    weighted = [{**each, "weight": share} for each, share in zip(parents, shares, strict=True)]
    write_json(model / "parents.json", weighted)
    write_atomic(model / "config.yaml", yaml.safe_dump(architecture, sort_keys=False))
    return _report(model / "model.safetensors", parents, shares, squared, specs)


def _report(
    weights: Path,
    parents: list[dict[str, Any]],
    shares: list[float],
    squared: Mapping[str, float],
    specs: Mapping[str, TensorSpec],
) -> Report:
    steps = {parent["step"] for parent in parents}
    tokens = [parent["tokens"] for parent in parents]
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
    return Report(
        numbers={
            "ingredients": len(parents),
            "tensors": len(specs),
            "parameters": sum(math.prod(spec.shape) for spec in specs.values()),
            "model_bytes": weights.stat().st_size,
        },
        tables={"ingredients": rows},
        data={
            "model_sha256": sha256_file(weights),
            # The step means something only where all ingredients stopped at the same one.
            "step": steps.pop() if len(steps) == 1 else None,
            "tokens": sum(tokens) if None not in tokens else None,
            "parents": parents,
            "weights": shares,
        },
    )


def _squared_distance(values: np.ndarray, mean: np.ndarray) -> float:
    """Return the sum of squared differences, of a regular sample where the tensor is large."""
    stride = max(1, values.size // SAMPLED_VALUES)
    difference = values.reshape(-1)[::stride] - mean.reshape(-1)[::stride]
    return float(np.dot(difference, difference)) * stride


def _common_architecture(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return the `model` section that all ingredients share: the soup's `config.yaml`."""
    sections = {
        name: to_dict(load(folder / "model" / "config.yaml").get("model"))
        for name, folder in folders.items()
    }
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise InputError(f"{name}: model/config.yaml has no section `model`")
    (first_name, first), *others = sections.items()
    for name, section in others:
        for key in sorted(first.keys() | section.keys()):
            mine, theirs = first.get(key), section.get(key)
            if mine != theirs and not key.startswith("init_"):
                raise InputError(
                    f"{first_name} and {name} differ in model.{key}: {mine!r} and {theirs!r}"
                )
    return {"model": first}


def _parent(name: str, folder: Path) -> dict[str, Any]:
    """Return what is recorded of an ingredient: no path, only what identifies it anywhere."""
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
