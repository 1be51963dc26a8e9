"""Compile a model block by block, for fixed shapes.

The whole model is never compiled: the embedding's backward would then use atomic additions, and no
two runs would have the same bits (measured). Compiled by block, runs repeat to the last bit, with a
cold or a warm cache.
"""

import os
import shutil

import torch

from olmo_core.config.compute import CompileConfig
from olmo_core.errors import ConfigError
from olmo_core.model.transformer import Transformer


def compile_blocks(model: Transformer, config: CompileConfig, device: torch.device) -> None:
    """Make every block compile itself on its first call; parameter names do not change.

    Raises:
        ConfigError: torch has no such mode or backend, or the CPU backend lacks a C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if config.backend == "inductor" and device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: on a CPU torch.compile needs a C++ compiler, and {compiler} is not found; "
            "install one, name it in CXX, or leave compile out"
        )
    for block in model.blocks:
        try:
            block.compile(
                dynamic=False, mode=config.mode, fullgraph=config.fullgraph, backend=config.backend
            )
        except RuntimeError as error:  # torch knows which there are
            raise ConfigError(f"compile: {error}") from None
