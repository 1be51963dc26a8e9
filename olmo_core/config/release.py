"""Sections `soup` and `export` of a recipe."""

import math
from dataclasses import dataclass
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least


@dataclass(frozen=True, kw_only=True)
class SoupConfig:
    """How ingredients become one model."""

    # One weight per ingredient, in the order of their numbers; they sum to 1. None: the plain mean.
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        total = 1.0 if self.weights is None else math.fsum(self.weights)
        if not math.isclose(total, 1.0, rel_tol=0, abs_tol=1e-9):
            raise ValueError(f"weights: they sum to {total}, not to 1")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Bounded):
    """How models are written for Hugging Face, and how strictly they are compared with ours."""

    repository: str  # ORGANISATION/NAME of the hub layout
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # bfloat16 halves the files and rounds every weight
    )
    # Tensors of one file, in bytes; a larger model is cut into shards with an index.
    max_shard_bytes: int = at_least(1, default=5_000_000_000)
    parity_sequences: int = at_least(1, default=4)  # real text, cut to sequences
    # tokens, at most the model's own maximum
    parity_sequence_length: int = at_least(1, default=128)
    parity_tolerance: float = 1e-5  # largest |difference| of logits over the largest |logit|
    sample_prompts: tuple[str, ...] = ()  # continued greedily by each model, to look at
    sample_tokens: int = at_least(1, default=32)  # new tokens of a sample

    def __post_init__(self) -> None:
        super().__post_init__()
        organisation, slash, name = self.repository.partition("/")
        if not (organisation and slash and name) or "/" in name or "--" in self.repository:
            raise ValueError(
                f"repository: {self.repository!r} is not ORGANISATION/NAME (without '--')"
            )
        if not 0 < self.parity_tolerance < 1:
            raise ValueError(f"parity_tolerance: {self.parity_tolerance} is not within (0, 1)")
