"""Start from weights alone: a Hugging Face folder of Olmo or Olmo2, or a model folder of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from olmo_core.checkpoint.huggingface import from_huggingface, model_config
from olmo_core.checkpoint.source import Place, Source, require_same_model
from olmo_core.checkpoint.state import MODEL
from olmo_core.checkpoint.tensor_file import Stored, open_safetensors
from olmo_core.checkpoint.weights import CONFIG, WEIGHTS
from olmo_core.config.load import load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import read_json, sha256_file

HUGGINGFACE = "config.json"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")  # of older exports


@dataclass(frozen=True)
class Weights(Source):
    """A folder of weights, its files on this machine.

    Attributes:
        tensors: What lies in the files, by the names of our parameters.
        files: All of them.
        ours: Whether it is a model folder of ours.
    """

    tensors: Mapping[str, Stored]
    files: tuple[Path, ...]
    ours: bool
    has_training_state: ClassVar[bool] = False

    def identify(self) -> dict[str, Any]:
        """Return the digests of its weights."""
        digests = {path.name: sha256_file(path) for path in self.files}
        if self.ours:
            return {"step": None, "model_sha256": digests[WEIGHTS]}
        return {"step": None, "model_sha256": None, "weights_sha256": digests}

    def read(self, *, moments: bool) -> Mapping[str, Stored]:
        """Return the weights; there are no moments."""
        return {MODEL + name: tensor for name, tensor in self.tensors.items()}


def open_model_folder(place: Place, path: Path, model: ModelConfig) -> Weights:
    """Open a model folder, as a run or a soup leaves it; `path` is its weights on this machine.

    Raises:
        InputError: a file is missing or damaged, or it is another model than the run's.
    """
    require_same_model(f"{place}/{CONFIG}", load(place.file(CONFIG)), model)
    return Weights(place.location, open_safetensors(path), (path,), ours=True)


def open_huggingface(place: Place, model: ModelConfig) -> Weights:
    """Open a Hugging Face folder, all of whose files are fetched where they lie elsewhere.

    Raises:
        InputError: a file is missing or damaged, or it is another model than the run's.
    """
    values = _read(place.file(HUGGINGFACE))
    files = tuple(map(place.file, _weight_files(place)))
    stored = {name: tensor for path in files for name, tensor in open_safetensors(path).items()}
    try:
        theirs = model_config(values)
        tensors = from_huggingface(stored, theirs)
    except (InputError, KeyError) as error:
        raise InputError(f"{place}: {error}") from error
    require_same_model(f"{place}/{HUGGINGFACE}", theirs, model)
    return Weights(place.location, tensors, files, ours=False)


def _weight_files(place: Place) -> list[str]:
    if place.has(WEIGHTS):
        return [WEIGHTS]
    if not place.has(INDEX) and (pickled := place.first_of(PICKLED)):
        raise InputError(
            f"{place}: holds {pickled}, but no {WEIGHTS} nor {INDEX}: weights are read from "
            "safetensors alone. transformers converts them: AutoModelForCausalLM.from_pretrained("
            "OLD).save_pretrained(NEW)"
        )
    index = place.file(INDEX)
    try:
        return sorted(set(_read(index)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index}: no weight_map: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(values).__name__}")
    return cast(dict[str, Any], values)
