"""One rank of a sharded or replicated model, against one on one device. Run by the tests.

`GIVEN` is a global that whoever runs this file gives.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from olmo_core.config.model import ModelConfig
from olmo_core.config.optim import OptimizerConfig
from olmo_core.config.placement import CompileConfig, FSDPConfig
from olmo_core.config.train import CoreConfig, DataConfig, TrainConfig
from olmo_core.data.loader import Batch, document_positions
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import AdamW, build_optimizer
from olmo_core.parallel import gradients as gradients_module
from olmo_core.parallel.gradients import Gradients, ReplicatedGradients
from olmo_core.parallel.parameters import gather, held_rows
from olmo_core.parallel.prepare import prepare
from olmo_core.parallel.sharding import ShardedGradients
from olmo_core.parallel.world import World, joined, read_world
from olmo_core.train.step import SUMS, autocast, forward_backward

ROWS = 12  # of the global batch
SEED = 3


def batch(config: TrainConfig, rank: int, size: int) -> Batch:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 63, (ROWS, 16))
    mask = rng.random((ROWS, 16)) < 0.8
    instances = np.arange(ROWS) % 5 != 0
    own = slice(rank, None, size)
    return Batch(
        input_ids=ids[own],
        label_mask=mask[own],
        instance_mask=instances[own],
        positions=document_positions(ids[own], 7) if config.data.generate_doc_lengths else None,
        instances=np.arange(ROWS)[own],
    )


def step(model: Transformer, gradients: Gradients, config: TrainConfig, world: World) -> None:
    gradients.zero()
    with autocast(config.precision, world.device):
        forward_backward(
            model,
            batch(config, world.rank, world.size),
            gradients,
            microbatch_size=config.device_train_microbatch_size,
            z_loss=1e-4,
        )
    gradients.reduce(world)


def alone(config: TrainConfig) -> tuple[Transformer, ReplicatedGradients]:
    """The same step of the same model in a world of one."""
    model = Transformer(config.model)
    initialise(model, SEED)
    gradients = ReplicatedGradients(model.parameters(), sums=len(SUMS))
    step(model, gradients, config, World(device=torch.device("cpu")))
    return model, gradients


def check(config: TrainConfig, world: World, *, tolerance: float) -> None:
    """Weights, names, gradients, sums, norm and one clipped update are those of one device."""
    with torch.device("meta"):
        model = Transformer(config.model)
    gradients = prepare(model, config, world, sums=len(SUMS))
    assert isinstance(gradients, ShardedGradients)
    initialise(model, SEED, held_rows)
    if config.model.weight_tying:
        assert model.lm_head.weight is model.embeddings.weight
    whole, expected = alone(config)
    reference = dict(whole.named_parameters())
    assert [name for name, _ in model.named_parameters()] == list(reference)
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        assert torch.equal(gather(parameter), reference[name]), name
    mesh = cast(DTensor, model.embeddings.weight).device_mesh
    replicas = world.size // mesh.size(-1)
    held = sum(cast(DTensor, each).to_local().numel() for each in model.parameters())
    total = sum(each.numel() for each in whole.parameters())
    assert held < 1.25 * total * replicas / world.size  # shards of few rows are of unequal size
    microbatches = -(-(ROWS // world.size) // config.device_train_microbatch_size)
    reduced = microbatches if config.core.reduce_every_microbatch else 1
    # the rest is a unit where it has parameters; a tied table is among it
    layers, tables = config.model.n_layers, 0 if config.model.weight_tying else 2
    units = layers + tables + (config.model.weight_tying or config.model.layer_norm_with_affine)
    gathered = reduced * units if config.fsdp.keeps_gathered else microbatches * (units + layers)
    for _ in range(2):  # the second step begins anew
        with torch.profiler.profile() as profile:
            step(model, gradients, config, world)
        # as recorded: `key_averages` takes seconds to make Python objects of all events
        kineto: Any = cast(Any, profile.profiler).kineto_results
        recorded = Counter(event.name() for event in kineto.events())
        assert recorded["c10d::_reduce_scatter_base_"] == reduced * units
        assert recorded["c10d::_allgather_base_"] == gathered
        # the forward pass is the same arithmetic, in bfloat16 as well
        torch.testing.assert_close(gradients.sums, expected.sums, rtol=2e-6, atol=1e-4)
        for name, parameter in model.named_parameters():
            assert isinstance(parameter.grad, DTensor)
            assert parameter.grad.dtype == torch.float32
            wanted = cast(torch.Tensor, reference[name].grad)
            error = (gather(parameter.grad) - wanted).norm()
            assert error <= tolerance * wanted.norm(), (name, error)
    optimizers = [build_optimizer(config.optimizer, each) for each in (model, whole)]
    norms = [each.normalise(torch.tensor(97.0), 1e-3).item() for each in (gradients, expected)]
    assert abs(norms[0] / norms[1] - 1) < tolerance
    for optimizer in optimizers:
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gather(parameter), reference[name], rtol=0, atol=10 * tolerance)
    check_skipping(model, optimizers[0])


def check_replicated(config: TrainConfig, world: World, *, tolerance: float) -> None:
    """Summed in slices, gradients and sums are those of one device, and of one whole reduction."""
    model, own = Transformer(config.model), Transformer(config.model)
    initialise(model, SEED)
    initialise(own, SEED)
    gradients = prepare(model, config, world, sums=len(SUMS))
    assert isinstance(gradients, ReplicatedGradients)
    at_once = ReplicatedGradients(own.parameters(), sums=len(SUMS))
    whole, expected = alone(config)
    for _ in range(2):  # the second step begins anew
        with noted_reductions() as sent:
            step(model, gradients, config, world)
        numbers = [len(part) for part, _ in sent]
        ends = [part.storage_offset() + len(part) for part, _ in sent]
        assert ends == [sum(numbers[i:]) for i in range(len(sent))]  # from the end to the begin
        assert ends[0] == len(gradients.buffer)
        assert len(sent) > 3
        assert [early for _, early in sent] == [True] * (len(sent) - 1) + [False]
        step(own, at_once, config, world)
        if world.size == 2:  # of more ranks gloo may add up in another order
            assert torch.equal(gradients.buffer, at_once.buffer)
        torch.testing.assert_close(gradients.sums, expected.sums, rtol=tolerance, atol=1e-4)
        for (name, one), two in zip(model.named_parameters(), whole.parameters(), strict=True):
            ours, theirs = cast(torch.Tensor, one.grad), cast(torch.Tensor, two.grad)
            assert (ours - theirs).norm() <= tolerance * theirs.norm(), name


@contextlib.contextmanager
def noted_reductions() -> Iterator[list[tuple[torch.Tensor, bool]]]:
    """Note what is reduced, and whether a backward pass is going on."""
    sent: list[tuple[torch.Tensor, bool]] = []

    def noting(tensor: torch.Tensor, **how: Any) -> Any:
        sent.append((tensor, torch._C._current_graph_task_id() >= 0))  # pyright: ignore
        return original(tensor, **how)

    original, dist.all_reduce = dist.all_reduce, noting
    try:
        yield sent
    finally:
        dist.all_reduce = original


def check_skipping(model: Transformer, optimizer: AdamW) -> None:
    """An update that is left out changes nothing, without asking the device."""

    def everything() -> list[torch.Tensor]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        return [gather(tensor).clone() for tensor in [*model.parameters(), *states]]

    before = everything()
    for found, changes in ((1.0, False), (0.0, True)):
        optimizer.step(torch.tensor(found))
        same = [torch.equal(a, b) for a, b in zip(before, everything(), strict=True)]
        assert all(same) != changes


def main(environment: dict[str, str], shape: dict[str, Any], folder: Path, **given: Any) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    world = read_world(environment)
    gradients_module._SLICE = 500  # pyright: ignore  # several slices of a tiny model
    with joined(world):
        for case in given["cases"]:
            torch.compiler.reset()
            config = TrainConfig(
                model=ModelConfig(**{**shape, **case.get("shape", {})}),
                optimizer=OptimizerConfig(name="adamw", learning_rate=1e-2, eps=1e-5),
                precision=case.get("precision", "fp32"),
                device_train_microbatch_size=2,
                distributed_strategy="fsdp" if "fsdp" in case else "ddp",
                fsdp=FSDPConfig(**case.get("fsdp", {})),
                data=DataConfig(generate_doc_lengths="documents" in case),
                core=CoreConfig(reduce_every_microbatch="reduce_every_microbatch" in case),
                compile=CompileConfig(backend="aot_eager", fullgraph=True)
                if "compile" in case
                else None,
                activation_checkpointing=case.get("activation_checkpointing"),
            )
            checked = check if "fsdp" in case else check_replicated
            checked(config, world, tolerance=case.get("tolerance", 1e-5))


if __name__ == "__main__":
    main(**globals()["GIVEN"])
