"""The model folder of a finished run: `model.safetensors` in float32 and its `config.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import yaml

from olmo_core.checkpoint.state import assemble
from olmo_core.checkpoint.tensor_file import TensorSpec, open_safetensors, write_tensors
from olmo_core.config.load import Tree, build, load
from olmo_core.config.model import ModelConfig
from olmo_core.config.official import drop_neutral, drop_without_meaning
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_atomic
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.parameters import gather

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"
_CPU = torch.device("cpu")


def save_model(folder: Path, model: Transformer, config: Mapping[str, Any]) -> None:
    """Write the weights under our own parameter names, and the configuration beside them.

    Args:
        folder: The run's `model/`.
        model: Written in float32, a tied head once. Where it is sharded, the other ranks call
            `lend_shards` at the same time.
        config: The training configuration in its plain form, `model:` included.
    """
    parameters = dict(model.named_parameters())
    specs = {
        name: TensorSpec(dtype="F32", shape=tuple(parameter.shape))
        for name, parameter in parameters.items()
    }

    def data(name: str) -> bytes:
        return gather(parameters[name].detach()).to("cpu", torch.float32).numpy().tobytes()

    write_tensors(folder / WEIGHTS, specs, data)
    write_atomic(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))


def lend_shards(model: Transformer) -> None:
    """Do the other ranks' part in the first one's `save_model`: gather each tensor in turn."""
    for _, parameter in sorted(model.named_parameters()):  # the order of the file
        gather(parameter.detach())


def load_model(folder: Path, device: torch.device = _CPU) -> Transformer:
    """Return the model of a model folder, ready to evaluate.

    Raises:
        InputError: the weights are not those of the configuration.
    """
    config = read_model(load(folder / CONFIG), str(folder / CONFIG))
    return assemble(config, open_safetensors(folder / WEIGHTS), folder / WEIGHTS, device)


def read_model(tree: Mapping[str, Any], where: str) -> ModelConfig:
    """Build the `model` section of a checkpoint's configuration, OLMo's or ours.

    Raises:
        InputError: there is none, or this project's model does not compute what it says.
    """
    section = tree.get("model")
    if not isinstance(section, Mapping):
        raise InputError(f"{where}: no section `model`")
    if not isinstance(section, Tree):
        section = Tree(cast(Mapping[str, Any], section), file=where)
    kept, _ = drop_without_meaning(section, "model.")
    try:
        return build(ModelConfig, drop_neutral(kept, "model."), where="model")
    except ConfigError as error:
        raise InputError(str(error)) from None
