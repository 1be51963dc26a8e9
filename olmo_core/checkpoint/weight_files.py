"""The weights of a Hugging Face folder: `model.safetensors`, or shards and their index.

Shards are named as the hub names them, `model-00001-of-00003.safetensors`, and
`model.safetensors.index.json` says which tensor lies in which
(https://huggingface.co/docs/safetensors). The index that is written here also holds the SHA-256 of
each shard, so that its own digest is that of all weights. Free of torch.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from olmo_core.checkpoint.tensor_file import (
    Stored,
    TensorSpec,
    open_safetensors,
    write_tensors,
)
from olmo_core.errors import InputError, listed
from olmo_core.files import read_json, sha256_file, write_atomic

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"

Data = Callable[[str], bytes | memoryview]


def write_weights(
    folder: Path, specs: Mapping[str, TensorSpec], data: Data, max_shard_bytes: int
) -> None:
    """Write the weights of a model, a tensor in memory at a time; the index last.

    Args:
        folder: Receives one file where the tensors take at most `max_shard_bytes`, else shards.
        specs: Name, dtype and shape of every tensor, in the order in which shards are filled.
        data: Gives the bytes of a tensor.
        max_shard_bytes: Of tensors in a shard; a larger tensor has one of its own.
    """
    shards = split(specs, max_shard_bytes)
    if len(shards) == 1:
        write_tensors(folder / WEIGHTS, specs, data)
        return
    digests: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / file, {name: specs[name] for name in names}, data)
        digests[file] = sha256_file(folder / file)
        weight_map |= dict.fromkeys(names, file)
    total = sum(spec.size_bytes for spec in specs.values())
    index = {"metadata": {"sha256": digests, "total_size": total}, "weight_map": weight_map}
    write_atomic(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")


def split(specs: Mapping[str, TensorSpec], max_bytes: int) -> list[list[str]]:
    """Return the names of each shard's tensors: in order, each shard filled as far as they fit."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, spec in specs.items():
        if shards[-1] and filled + spec.size_bytes > max_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += spec.size_bytes
    return shards


def is_sharded(folder: Path) -> bool:
    """Return whether the folder's weights are shards with an index."""
    return (folder / INDEX).is_file()


def weight_paths(folder: Path) -> list[Path]:
    """Return the files that hold the weights, the index not among them, sorted.

    Raises:
        InputError: there are none or two kinds, or the shards are not those of the index.
    """
    whole, shards = folder / WEIGHTS, {path.name for path in folder.glob(SHARDS)}
    if not is_sharded(folder):
        if shards:
            raise InputError(f"{folder}: {listed(shards)}, but no {INDEX} to say what they hold")
        return [whole]
    if whole.exists():
        raise InputError(f"{folder}: both {WEIGHTS} and {INDEX}; expected one of them")
    named = set(read_weight_map(folder / INDEX).values())
    for kind, names in (("missing", named - shards), ("not in the index", shards - named)):
        if names:
            raise InputError(f"{folder / INDEX}: shards {kind}: {listed(names)}")
    return [folder / name for name in sorted(named)]


def read_weight_map(index: Path) -> dict[str, str]:
    """Return which tensor lies in which file of the index's folder.

    Raises:
        InputError: it is no index, or names a file elsewhere.
    """
    names = _section(index, "weight_map")
    if strange := [name for name in names.values() if "/" in name or not name.strip(".")]:
        raise InputError(f"{index}: {listed(strange)}: expected names of files beside it")
    return names


def open_weights(folder: Path) -> dict[str, Stored]:
    """Return the tensors of a folder's weights.

    Raises:
        InputError: a file is missing, truncated or extra, or a shard holds other tensors than the
            index says.
    """
    paths = weight_paths(folder)
    if not is_sharded(folder):
        return open_safetensors(paths[0])
    return join_shards(folder / INDEX, {path.name: path for path in paths})


def join_shards(index: Path, files: Mapping[str, Path]) -> dict[str, Stored]:
    """Return the tensors of all shards.

    Args:
        index: The index file.
        files: Name in the index -> the file, which may lie elsewhere.

    Raises:
        InputError: a shard is damaged, or holds other tensors than the index says.
    """
    weight_map, found = read_weight_map(index), dict[str, Stored]()
    for file, path in files.items():
        tensors = open_safetensors(path)
        named = {name for name, where in weight_map.items() if where == file}
        for kind, names in (
            ("lacks tensors of the index", named - tensors.keys()),
            ("holds tensors that the index does not place there", tensors.keys() - named),
        ):
            if names:
                raise InputError(f"{path}: {kind}: {listed(names)}")
        found |= tensors
    return found


def weights_sha256(folder: Path) -> str:
    """Return the digest of a folder's weights: of the one file, or of the index of the shards.

    Raises:
        InputError: a shard is missing or extra, or is not what the index says, which is named.
    """
    paths = weight_paths(folder)
    if not is_sharded(folder):
        return sha256_file(paths[0])
    index = folder / INDEX
    digests = _section(index, "metadata", "sha256")
    for path in paths:
        expected, found = digests.get(path.name), sha256_file(path)
        if found != expected:
            raise InputError(
                f"{path}: sha256 {found[:12]}…, but {INDEX} says {str(expected)[:12]}…; it has "
                "been changed since it was exported"
            )
    return sha256_file(index)


def total_bytes(folder: Path) -> int:
    """Return the size of the files that hold the weights."""
    return sum(path.stat().st_size for path in weight_paths(folder))


def _section(index: Path, *keys: str) -> dict[str, str]:
    """Return a mapping of names in the index."""
    found: Any = read_json(index)
    for key in keys:
        found = cast(dict[str, Any], found).get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not found:
        raise InputError(f"{index}: no {'.'.join(keys)}; expected a mapping of names")
    return {str(name): str(value) for name, value in cast(dict[str, Any], found).items()}
