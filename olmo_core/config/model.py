"""The shape of an OLMo, by the official `model:` keys, and its parameter counts as arithmetic.

Free of torch. Every default is OLMo's own, so a file that leaves a key out means here what it
means there. Keys that would change the mathematics and that this model does not have are refused
unless they stand at the value that `only` names.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, above, at_least


def only(value: Any, *, default: Any) -> Any:
    """Declare an official key of which this model computes one value alone.

    OLMo's default may differ (0.1 for the dropouts): such a file must say so itself, since leaving
    the key out would change what is learned.
    """
    return field(default=default, metadata={"only": value})


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Bounded):
    """Official keys of `model:`. Sizes are in units (heads, rows, positions), not bytes."""

    d_model: int = at_least(1, default=768)
    n_heads: int = at_least(1, default=12)
    n_kv_heads: int | None = at_least(1, default=None)  # None: as many as n_heads
    clip_qkv: float | None = above(0, default=None)  # clamp of the q, k and v projections
    n_layers: int = at_least(1, default=12)
    mlp_ratio: int = at_least(1, default=4)  # fused width (up and gate) over d_model
    mlp_hidden_size: int | None = at_least(1, default=None)  # fused width; one branch is half of it
    activation_type: Literal["swiglu", "gelu", "relu"] = only("swiglu", default="swiglu")
    block_type: Literal["sequential", "parallel", "llama"] = only(
        "sequential", default="sequential"
    )
    alibi: bool = only(False, default=False)
    rope: bool = only(True, default=False)
    rope_full_precision: bool = only(True, default=True)
    rope_theta: int = at_least(1, default=10_000)
    attention_dropout: float = only(0.0, default=0.1)
    multi_query_attention: bool | None = None
    attention_layer_norm: bool = False  # norm of the whole q and k projections
    residual_dropout: float = only(0.0, default=0.1)
    embedding_dropout: float = only(0.0, default=0.1)
    embedding_layer_norm: bool = only(False, default=False)
    layer_norm_type: Literal["default", "rms"] = "default"
    layer_norm_with_affine: bool = True
    layer_norm_eps: float = at_least(0, default=1e-5)
    attention_layer_norm_with_affine: bool = True
    max_sequence_length: int = at_least(2, default=1024)  # one token alone predicts nothing
    include_bias: bool = only(False, default=True)
    bias_for_layer_norm: bool | None = None  # None: as include_bias
    scale_logits: bool = only(False, default=False)
    vocab_size: int = at_least(1, default=50_257)
    # rows of the table, padded; None: vocab_size
    embedding_size: int | None = at_least(1, default=50_304)
    weight_tying: bool = True
    eos_token_id: int = at_least(0, default=50_256)
    pad_token_id: int = at_least(0, default=50_256)
    init_fn: Literal["normal", "mitchell"] = "normal"
    init_std: float = above(0, default=0.02)
    # truncation of `normal`, in standard deviations
    init_cutoff_factor: float | None = above(0, default=None)
    scale_emb_init: bool = only(False, default=False)
    emb_init_std: float | None = only(None, default=None)
    norm_after: bool = False  # OLMo 2: x + norm(f(x)); OLMo 1: x + f(norm(x))

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, neutral in NEUTRAL.items():
            found = getattr(self, key)
            if found != neutral:
                raise ValueError(
                    f"{key} is {found!r} (written, or OLMo's default) and would change what is "
                    f"learned; this model computes {key}: {neutral!r} only"
                )
        if self.bias_for_layer_norm:
            raise ValueError("bias_for_layer_norm is True; this model has no biases")
        if self.d_model % self.n_heads or self.head_dim % 2:
            raise ValueError(
                f"d_model {self.d_model} must be n_heads ({self.n_heads}) times an even head size"
            )
        if self.multi_query_attention is not None and self.n_kv_heads is not None:
            meant = 1 if self.multi_query_attention else self.n_heads
            if self.n_kv_heads != meant:
                raise ValueError(
                    f"n_kv_heads is {self.n_kv_heads}, but multi_query_attention: "
                    f"{self.multi_query_attention} means {meant}; leave one of them out"
                )
        if self.n_heads % self.kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is no multiple of n_kv_heads {self.kv_heads}")
        if self.fused_feed_forward_size % 2:
            raise ValueError(
                f"mlp_hidden_size is {self.fused_feed_forward_size}; expected an even number: it "
                "counts the up and the gate projection together"
            )
        if self.padded_vocab_size < self.vocab_size:
            raise ValueError(
                f"embedding_size {self.padded_vocab_size} is below vocab_size {self.vocab_size}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        if self.n_kv_heads is not None:
            return self.n_kv_heads
        return 1 if self.multi_query_attention else self.n_heads

    @property
    def fused_feed_forward_size(self) -> int:
        """OLMo's MLP width: up and gate together."""
        return self.mlp_hidden_size or self.mlp_ratio * self.d_model

    @property
    def feed_forward_size(self) -> int:
        """Width of one branch of the feed-forward network."""
        return self.fused_feed_forward_size // 2

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table and of the output head (padding rows included)."""
        return self.embedding_size or self.vocab_size

    @property
    def function(self) -> dict[str, Any]:
        """The values that decide what the model computes of given weights, by official key."""
        qk_norm = self.attention_layer_norm
        return {
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.kv_heads,
            "mlp_hidden_size": self.fused_feed_forward_size,
            "embedding_size": self.padded_vocab_size,
            "weight_tying": self.weight_tying,
            "norm_after": self.norm_after,
            "layer_norm_type": self.layer_norm_type,
            "layer_norm_with_affine": self.layer_norm_with_affine,
            "layer_norm_eps": self.layer_norm_eps,
            "attention_layer_norm": qk_norm,
            "attention_layer_norm_with_affine": qk_norm and self.attention_layer_norm_with_affine,
            "clip_qkv": self.clip_qkv,
            "rope_theta": self.rope_theta,
        }


# Key -> the only value that this model computes.
NEUTRAL: dict[str, Any] = {
    each.name: each.metadata["only"] for each in fields(ModelConfig) if "only" in each.metadata
}


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Numbers of parameters. `without_input_embedding` is total minus the input table."""

    total: int
    without_input_embedding: int


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count the parameters of `config` without building it."""
    d, kv = config.d_model, config.kv_heads * config.head_dim
    norm = d if config.layer_norm_with_affine else 0
    attention = 2 * d * d + 2 * d * kv
    if config.attention_layer_norm and config.attention_layer_norm_with_affine:
        attention += d + kv
    block = attention + 3 * d * config.feed_forward_size + 2 * norm
    table = config.padded_vocab_size * d
    total = config.n_layers * block + norm + (table if config.weight_tying else 2 * table)
    return ParameterCount(total=total, without_input_embedding=total - table)


def flops_per_token(config: ModelConfig, sequence_length: int) -> int:
    """Training FLOPs per token: 6 a parameter outside the input table, and causal attention."""
    weights = count_parameters(config).without_input_embedding
    return 6 * weights + 6 * config.n_layers * config.d_model * sequence_length
