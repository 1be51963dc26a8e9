"""Our model with weights that stay in their files until the layer that needs them is computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from olmo_core.checkpoint.state import require_same
from olmo_core.checkpoint.tensor_file import Stored
from olmo_core.config.model import ModelConfig
from olmo_core.model.transformer import Transformer


def stream(config: ModelConfig, stored: Mapping[str, Stored], path: Path) -> Transformer:
    """Return a model on the CPU, to evaluate in f32, that holds the weights of one layer at a time.

    Args:
        config: The model's shape.
        stored: Its tensors by our names; a tied head is not among them.
        path: Where they lie, for messages.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape.
    """
    with torch.device("meta"):
        model = Transformer(config)
    require_same(
        path,
        {name: tensor.shape for name, tensor in stored.items()},
        dict(model.named_parameters()),
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    for layer in (model.embeddings, *model.blocks, model.norm, model.lm_head):
        _stream_layer(layer, {p: stored[names[p]] for p in layer.parameters()})
    return model.eval()


def _stream_layer(layer: nn.Module, stored: Mapping[nn.Parameter, Stored]) -> None:
    """Read a layer's weights before each call of it, and let go of them after it."""
    holders = [
        (module, name, parameter)
        for module in layer.modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]

    def read(*_: Any) -> None:
        for module, name, parameter in holders:
            values = stored[parameter].read().to(torch.float32)
            setattr(module, name, nn.Parameter(values, requires_grad=False))

    def release(*_: Any) -> None:
        for module, name, parameter in holders:
            setattr(module, name, parameter)

    layer.register_forward_pre_hook(read)
    layer.register_forward_hook(release)
