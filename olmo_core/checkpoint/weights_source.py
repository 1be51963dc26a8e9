"""Start from weights alone: a Hugging Face folder of Olmo or Olmo2, or a model folder of ours."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from olmo_core.checkpoint.huggingface import from_huggingface, model_config
from olmo_core.checkpoint.source import Place, Source, require_same_model
from olmo_core.checkpoint.state import MODEL, copy_strictly
from olmo_core.checkpoint.tensor_file import Stored, open_safetensors
from olmo_core.checkpoint.weight_files import INDEX, WEIGHTS, join_shards, read_weight_map
from olmo_core.checkpoint.weights import CONFIG
from olmo_core.config.load import load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import read_json, sha256_file

HUGGINGFACE = "config.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # of older exports


def open_model_folder(place: Place, path: Path, model: ModelConfig) -> Source:
    """Open a model folder, as a run or a soup leaves it; `path` is its weights on this machine.

    Raises:
        InputError: a file is missing or damaged, or it is another model than the run's.
    """
    require_same_model(f"{place}/{CONFIG}", load(place.file(CONFIG)), model)
    return _source(place, open_safetensors(path), lambda: {"model_sha256": sha256_file(path)})


def open_huggingface(place: Place, model: ModelConfig) -> Source:
    """Open a Hugging Face folder, all of whose files are fetched where they lie elsewhere.

    Raises:
        InputError: a file is missing or damaged, or it is another model than the run's.
    """
    values = _read(place.file(HUGGINGFACE))
    stored, files = _weights(place)
    try:
        theirs = model_config(values)
        tensors = from_huggingface(stored, theirs)
    except (InputError, KeyError) as error:
        raise InputError(f"{place}: {error}") from error
    require_same_model(f"{place}/{HUGGINGFACE}", theirs, model)

    def digests() -> dict[str, Any]:
        weights = {name: sha256_file(path) for name, path in files.items()}
        return {"model_sha256": None, "weights_sha256": weights}

    return _source(place, tensors, digests)


def _source(
    place: Place, tensors: Mapping[str, Stored], digests: Callable[[], dict[str, Any]]
) -> Source:
    """Return a source of weights on this machine, by the names of our parameters."""
    stored = {MODEL + name: tensor for name, tensor in tensors.items()}
    return Source(
        location=place.location,
        identify=lambda: {"step": None, **digests()},
        load=partial(copy_strictly, place.location, stored),
    )


def _weights(place: Place) -> tuple[dict[str, Stored], dict[str, Path]]:
    """Return the tensors of a Hugging Face folder, and its weight files by name."""
    if place.has(WEIGHTS):
        path = place.file(WEIGHTS)
        return open_safetensors(path), {WEIGHTS: path}
    if not place.has(INDEX) and (pickled := place.first_of(PICKLED)):
        raise InputError(
            f"{place}: holds {pickled}, but no {WEIGHTS} nor {INDEX}: weights are read from "
            "safetensors alone. transformers converts them: AutoModelForCausalLM.from_pretrained("
            "OLD).save_pretrained(NEW)"
        )
    index = place.file(INDEX)
    files = {name: place.file(name) for name in sorted(set(read_weight_map(index).values()))}
    return join_shards(index, files), files


def _read(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return cast(dict[str, Any], values)
