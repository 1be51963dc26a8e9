"""First weights: their distribution, and the same bits however the rows are shared out."""

import hashlib
import math

import pytest
import torch
from torch import Tensor, nn

from olmo_core.config.model import ModelConfig
from olmo_core.model.init import initialise, mitchell_std
from olmo_core.model.transformer import Transformer

SHAPE = {
    "d_model": 96,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_hidden_size": 512,
    "rope": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "include_bias": False,
    "vocab_size": 1000,
    "embedding_size": 1024,
    "weight_tying": False,
}


def weights(seed: int = 7, **keys: object) -> dict[str, Tensor]:
    model = Transformer(ModelConfig(**SHAPE, **keys))  # pyright: ignore[reportArgumentType]
    initialise(model, seed)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("init_fn", "cutoff"), [("normal", None), ("normal", 3.0), ("normal", 0.5), ("mitchell", None)]
)
def test_matrices_have_the_rule_s_distribution(init_fn: str, cutoff: float | None) -> None:
    config = ModelConfig(**SHAPE)
    bound = 3.0 if init_fn == "mitchell" else cutoff or math.inf
    for name, weight in weights(init_fn=init_fn, init_cutoff_factor=cutoff).items():
        if weight.ndim == 1:
            assert torch.equal(weight, torch.ones_like(weight))
            continue
        std = mitchell_std(config, name) if init_fn == "mitchell" else 0.02
        numbers = (weight.double() / std).flatten()
        assert numbers.abs().max() <= bound * (1 + 1e-6)
        # the probability of each tenth part, by the normal distribution's own quantiles
        outside = 0.5 * math.erfc(bound / math.sqrt(2))
        parts = torch.linspace(outside, 1 - outside, 11, dtype=torch.float64)[1:-1]
        counts = torch.bucketize(numbers, torch.special.ndtri(parts)).bincount(minlength=10)
        spread = math.sqrt(len(numbers) * 0.1 * 0.9)  # of a count
        assert (counts - len(numbers) / 10).abs().max() < 5 * spread, name


def test_every_matrix_and_row_has_numbers_of_its_own() -> None:
    found = [weight for weight in weights().values() if weight.ndim > 1]
    firsts = {weight[row, :4].numpy().tobytes() for weight in found for row in range(len(weight))}
    assert len(firsts) == sum(len(weight) for weight in found)
    other = weights(seed=8)
    assert all(not torch.equal(other[name], weight) for name, weight in weights().items()
               if weight.ndim > 1)  # fmt: skip


@pytest.mark.parametrize("shards", [1, 2, 3, 16, 130])
def test_shards_of_any_number_have_the_bits_of_the_whole(shards: int) -> None:
    whole = weights(init_cutoff_factor=3.0)
    model = Transformer(ModelConfig(**SHAPE, init_cutoff_factor=3.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    for shard in range(shards):

        def own(parameter: nn.Parameter, shard: int = shard) -> tuple[int, Tensor]:
            size = -(-len(parameter) // shards)
            first = min(shard * size, len(parameter))
            return first, parameter[first : first + size]

        initialise(model, 7, own)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, whole[name]), name


def test_only_the_rows_that_are_held_are_drawn() -> None:
    """One row of each matrix of the 65B model: all of them would take an hour."""
    config = ModelConfig(**{**SHAPE, "d_model": 8192, "n_heads": 64, "n_layers": 80,
                            "mlp_hidden_size": 44_032, "embedding_size": 50_304})  # fmt: skip
    with torch.device("meta"):
        model = Transformer(config)
    drawn: list[Tensor] = []

    def last_row(parameter: nn.Parameter) -> tuple[int, Tensor]:
        drawn.append(torch.empty((1, *parameter.shape[1:])))
        return len(parameter) - 1, drawn[-1]

    initialise(model, 7, last_row)
    assert all(row.isfinite().all() for row in drawn)


def test_the_numbers_stay_what_they_are() -> None:
    """A library that draws others changes every run that is begun with it."""
    for cutoff, digest in ((None, "5c721f3190b95230"), (3.0, "2e77b994106114bf")):
        content = weights(init_cutoff_factor=cutoff)["lm_head.weight"].numpy().tobytes()
        assert hashlib.sha256(content).hexdigest()[:16] == digest


def test_mitchell_falls_with_depth_for_the_projections_back_into_the_stream() -> None:
    config = ModelConfig(**SHAPE)
    assert mitchell_std(config, "blocks.0.attention.w_q.weight") == 96**-0.5
    assert mitchell_std(config, "blocks.2.attention.w_out.weight") == (2 * 96 * 3) ** -0.5
    assert mitchell_std(config, "blocks.1.feed_forward.w2.weight") == (2 * 256 * 2) ** -0.5
