"""Our training step, put together of what `olmo_core.train` puts together, without its loop."""

import hashlib
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from part import CUDA, DEVICE, EOS, Z_LOSS, draw, draw_tokens, reset_peak_memory
from torch import Tensor

from benchmarks.olmo2 import model_config
from olmo_core.config.optim import OptimizerConfig, SchedulerConfig
from olmo_core.config.placement import CompileConfig
from olmo_core.config.train import CoreConfig, DataConfig, TrainConfig
from olmo_core.data.loader import Batch
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import build_optimizer
from olmo_core.parallel.parameters import held_rows
from olmo_core.parallel.prepare import prepare
from olmo_core.parallel.world import World
from olmo_core.train.build import build_loader
from olmo_core.train.guard import Guard
from olmo_core.train.run import prepare_arithmetic
from olmo_core.train.state import History
from olmo_core.train.step import SUMS, autocast, forward_backward

THREADS = 8 if CUDA else 1  # small shapes are no faster with two


def train_config(
    shape: Mapping[str, Any],
    tokens: Path,
    *,
    precision: str = "amp_bf16",
    compiled: bool = True,
    deterministic: bool = False,
    documents: bool = False,
    kv_heads: int | None = None,
) -> TrainConfig:
    """Return a run's configuration, as a recipe for one GPU gives it.

    On a CPU blocks are traced but not translated to C++, which takes a minute; the loss is.
    """
    return TrainConfig(
        model=replace(model_config(dict(shape)), n_kv_heads=kv_heads, eos_token_id=EOS),
        optimizer=OptimizerConfig(name="adamw", learning_rate=4e-4, weight_decay=0.1, eps=1e-8),
        data=DataConfig(paths=[str(tokens)], memmap_dtype="uint32", generate_doc_lengths=documents),
        scheduler=SchedulerConfig(name="constant"),
        core=CoreConfig(deterministic=deterministic, order="feistel", threads=THREADS),
        global_train_batch_size=shape["microbatches"] * shape["microbatch_size"],
        device_train_microbatch_size=shape["microbatch_size"],
        precision=precision,  # pyright: ignore[reportArgumentType]
        compile=CompileConfig(backend="inductor" if CUDA else "aot_eager") if compiled else None,
        max_grad_norm=1.0,
        softmax_auxiliary_loss=True,
        auxiliary_loss_multiplier=Z_LOSS,
        seed=1,
    )


def data_of(
    shape: Mapping[str, Any], batches: int, *, document: int, **how: Any
) -> tuple[TrainConfig, list[Batch]]:
    """Return a run's configuration and its batches.

    Args:
        shape: Of the model and its batches.
        batches: As many as one epoch has.
        document: Length, see `draw_tokens`.
        how: See `train_config`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens.npy")
        draw_tokens(shape, batches, document=document).tofile(path)
        config = train_config(shape, path, **how)
        loader = build_loader(config)
        return config, [loader.batch(step) for step in range(batches)]


class Training:
    """A model with its gradients and optimizer, and its step; there is one at a time.

    Args:
        config: The run's.
        device: Where to train.
        drawn_there: Draw the first weights on the device: for 1B, a minute less than by the rule
            that gives the same ones everywhere.

    Attributes:
        model, gradients, optimizer: As `olmo_core.train.build` makes them.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device = DEVICE, *, drawn_there: bool = False
    ) -> None:
        torch._dynamo.reset()
        reset_peak_memory()
        prepare_arithmetic(config.core)
        self.config, self.world = config, World(device=device)
        with torch.device("meta"):
            self.model = Transformer(config.model)
        self.gradients = prepare(self.model, config, self.world, sums=len(SUMS))
        if drawn_there:
            draw(self.model)
        else:
            initialise(self.model, config.seed, held_rows)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self._guard = Guard(None, History(), device)

    def accumulate(self, batch: Batch) -> Tensor:
        """Make the gradients of a batch's summed loss; return that over its labels, a scalar."""
        self.gradients.zero()
        with autocast(self.config.precision, self.world.device):
            forward_backward(
                self.model,
                batch,
                self.gradients,
                microbatch_size=self.config.device_train_microbatch_size,
                z_loss=self.config.z_loss,
                compiled=self.config.compile is not None,
            )
        sums = self.gradients.sums
        return sums[SUMS.index("cross_entropy")] / sums[SUMS.index("labels")]

    def step(self, batch: Batch) -> Tensor:
        """Train on a batch; return its loss, a scalar that the host has not waited for."""
        loss = self.accumulate(batch)
        self.gradients.reduce(self.world)
        sums = self.gradients.sums
        labels = sums[SUMS.index("labels")]
        norm = self.gradients.normalise(labels, self.config.max_grad_norm)
        left_out, _ = self._guard.judge(loss, norm, sums[SUMS.index("z_loss")], labels)
        self.optimizer.step(left_out)
        return loss

    def digest(self) -> str:
        """Return the SHA-256 of all parameters, of their digests by name."""

        def digest_of(parameter: Tensor) -> bytes:
            return hashlib.sha256(parameter.detach().cpu().numpy().tobytes()).digest()

        named = dict(self.model.named_parameters())
        with ThreadPoolExecutor() as threads:
            digests = threads.map(digest_of, named.values())
        whole = hashlib.sha256()
        for name, found in zip(named, digests, strict=True):
            whole.update(name.encode() + found)
        return whole.hexdigest()
