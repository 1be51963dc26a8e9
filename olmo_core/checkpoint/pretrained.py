"""Models to evaluate, our own and transformers', in f32; never one of weights not in the files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from olmo_core.checkpoint.huggingface import from_huggingface, model_config
from olmo_core.checkpoint.state import assemble
from olmo_core.checkpoint.tensor_file import open_safetensors
from olmo_core.errors import InputError, listed
from olmo_core.files import read_json
from olmo_core.model.transformer import Transformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def device_for_evaluation() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_exported(folder: Path, device: torch.device) -> Transformer:
    """Return our own model with the weights of a Hugging Face folder.

    Raises:
        InputError: the file is truncated, a parameter is missing, unexpected or misshapen, or
            the folder holds another kind of model.
    """
    values = read_json(folder / "config.json")
    path = folder / "model.safetensors"
    stored = open_safetensors(path)
    try:
        config = model_config(values)
        weights = from_huggingface(stored, config)
    except (InputError, KeyError) as error:
        raise InputError(f"{folder}: {error}") from error
    return assemble(config, weights, path, device)


def load_pretrained(folder: Path, device: torch.device) -> "PreTrainedModel":
    """Load transformers' own model of a Hugging Face folder, in f32.

    Raises:
        InputError: weights are missing, unexpected or of another shape. Transformers would
            initialise them at random and go on.
    """
    from transformers import AutoModelForCausalLM  # slow, and our own model needs none of it
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        output_loading_info=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # they are refused below, with the folder's name
    )
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := info.get(kind):
            raise InputError(f"{folder}: {kind.replace('_', ' ')}: {listed(map(str, found))}")
    return model.to(device).eval()
