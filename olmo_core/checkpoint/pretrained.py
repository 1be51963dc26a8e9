"""Our own model with the weights of a Hugging Face folder: strict, in f32, ready to evaluate."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from olmo_core.checkpoint.huggingface import from_huggingface, model_config
from olmo_core.checkpoint.tensor_file import TensorFile
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.model.transformer import Transformer


def device_for_evaluation() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_exported(folder: Path, device: torch.device) -> Transformer:
    """Our own model with the weights of a Hugging Face folder.

    Raises:
        InputError: the file is truncated, a parameter is missing, unexpected or misshapen, or
            the folder holds another kind of model.
    """
    config = model_config(read_json(folder / "config.json"))
    state = from_huggingface(_read(folder / "model.safetensors"), config)
    return _assemble(config, state, device, folder)


def _read(path: Path) -> dict[str, Tensor]:
    TensorFile(path)  # names the place where the file is not whole
    return load_file(path)


def _assemble(
    config: ModelConfig, state: Mapping[str, Tensor], device: torch.device, folder: Path
) -> Transformer:
    with torch.device("meta"):  # no time spent on weights that are about to be replaced
        model = Transformer(config)
    state = {name: tensor.float() for name, tensor in state.items()}
    if config.weight_tying and "lm_head.weight" not in state and "embeddings.weight" in state:
        state["lm_head.weight"] = state["embeddings.weight"]
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise InputError(f"{folder}: {' '.join(str(error).split())}") from None
    return model.to(device).eval()
