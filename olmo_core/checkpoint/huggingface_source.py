"""Start from a Hugging Face folder of Olmo or Olmo2: weights alone, from safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from olmo_core.checkpoint.huggingface import from_huggingface, model_config
from olmo_core.checkpoint.place import Place
from olmo_core.checkpoint.source import (
    Position,
    Stored,
    copy_strictly,
    describe_weights,
    require_same_model,
    weights_alone,
)
from olmo_core.checkpoint.tensors import open_safetensors
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import read_json

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # of older exports


@dataclass(frozen=True)
class HuggingFaceFolder:
    """The files of a folder, on this machine (`source.Source`)."""

    location: str
    values: Mapping[str, Any]  # of config.json
    files: tuple[Path, ...]
    model: ModelConfig  # the run's
    has_training_state: bool = False

    def position(self) -> Position:
        """None is stored: it begins anew."""
        return Position(step=0, tokens=0, order={})

    def identify(self) -> dict[str, Any]:
        """Its weights' digests."""
        return {"step": None, "model_sha256": None, **describe_weights(self.files)}

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """Copy the weights, bfloat16 as float32."""
        try:
            theirs = model_config(self.values)
        except (InputError, KeyError) as error:
            raise InputError(f"{self.location}: {error}") from error
        require_same_model(f"{self.location}/{CONFIG}", theirs, self.model)
        stored: dict[str, Stored] = {}
        for path in self.files:
            stored |= open_safetensors(path)
        try:
            ours = from_huggingface(stored, self.model)
        except InputError as error:
            raise InputError(f"{self.location}: {error}") from None
        copy_strictly(self.location, weights_alone(ours), model, None)


def open_huggingface(place: Place, model: ModelConfig) -> HuggingFaceFolder:
    """The folder's configuration and all of its weight files, fetched where they lie elsewhere.

    Raises:
        InputError: a file is missing or is not JSON.
    """
    values = _read(place.file(CONFIG))
    if place.has(WEIGHTS):
        names = [WEIGHTS]
    elif not place.has(INDEX) and (pickled := place.first_of(PICKLED)):
        raise InputError(
            f"{place}: holds {pickled}, but no {WEIGHTS} nor {INDEX}: weights are read from "
            "safetensors alone. transformers converts them: AutoModelForCausalLM.from_pretrained("
            "OLD).save_pretrained(NEW)"
        )
    else:
        index = place.file(INDEX)
        try:
            names = sorted(set(_read(index)["weight_map"].values()))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{index}: no weight_map: {error}") from error
    return HuggingFaceFolder(place.location, values, tuple(map(place.file, names)), model)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except ValueError as error:  # it names the file
        raise InputError(str(error)) from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return cast(dict[str, Any], values)
