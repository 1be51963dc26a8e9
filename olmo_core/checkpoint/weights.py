"""The model folder of a finished run: `model.safetensors` in float32 and its `config.yaml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from olmo_core.checkpoint.tensor_file import TensorSpec, write_tensors
from olmo_core.config.load import build, load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import write_atomic
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.sharding import gather

WEIGHTS, CONFIG = "model.safetensors", "config.yaml"


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
    """The other ranks' part in the first one's `save_model`: each tensor is gathered in turn."""
    for _, parameter in sorted(model.named_parameters()):  # the order of the file
        gather(parameter.detach())


def load_model(folder: Path, *, device: str = "cpu") -> Transformer:
    """Read a model folder, strictly: a missing, unexpected or misshapen tensor stops.

    Raises:
        InputError: the weights are not those of the configuration.
    """
    model = Transformer(build(ModelConfig, load(folder / CONFIG)["model"], where="model"))
    parameters = dict(model.named_parameters())
    with safe_open(folder / WEIGHTS, framework="pt") as file, torch.no_grad():
        stored = set(file.keys())
        if stored != parameters.keys():
            missing, extra = sorted(parameters.keys() - stored), sorted(stored - parameters.keys())
            raise InputError(f"{folder / WEIGHTS}: missing {missing[:5]}, unexpected {extra[:5]}")
        for name, parameter in parameters.items():
            tensor = file.get_tensor(name)
            if tensor.shape != parameter.shape:
                raise InputError(
                    f"{folder / WEIGHTS}: {name} is {tuple(tensor.shape)}, "
                    f"the model's {tuple(parameter.shape)}"
                )
            parameter.copy_(tensor)
    return model.to(device)
