"""Causal self-attention of both families: rotary positions, optional qk-norm, clipping and grouped
queries.

Shape suffixes: B batch, T positions, D d_model, H heads, K key and value heads, E head size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.config.model import ModelConfig
from olmo_core.model.documents import attend
from olmo_core.model.linear import Linear
from olmo_core.model.norm import Norm


class Attention(nn.Module):
    """Attend to the past and to oneself; scale 1/sqrt(head size); no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, kv = config.d_model, config.kv_heads * config.head_dim
        self.head_dim, self.clip = config.head_dim, config.clip_qkv
        self.grouped = config.kv_heads != config.n_heads
        self.w_q = Linear(d, d)
        self.w_k = Linear(d, kv)
        self.w_v = Linear(d, kv)
        self.w_out = Linear(d, d)
        self.q_norm = self.k_norm = None
        if config.attention_layer_norm:
            affine = config.attention_layer_norm_with_affine
            self.q_norm, self.k_norm = (Norm(config, size, affine=affine) for size in (d, kv))

    def forward(
        self, x_BTD: Tensor, sine: Tensor, cosine: Tensor, cu_doc_lens: Tensor | None = None
    ) -> Tensor:
        """Return the attention's output (B, T, D).

        Args:
            x_BTD: Residual stream, or its norm.
            sine, cosine: Of each position's angles, (T, E) or (B, 1, T, E).
            cu_doc_lens: Of the documents, see `Documents`: a position sees its document's past.
                None: all of the past.
        """
        q, k, v = self.w_q(x_BTD), self.w_k(x_BTD), self.w_v(x_BTD)
        if self.clip is not None:
            q, k, v = (y.clamp(-self.clip, self.clip) for y in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)  # over all heads at once
        q_BHTE, k_BKTE, v_BKTE = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in (q, k, v)
        )
        q_BHTE, k_BKTE = apply_rope(q_BHTE, sine, cosine), apply_rope(k_BKTE, sine, cosine)
        if cu_doc_lens is None:
            y_BHTE = F.scaled_dot_product_attention(
                q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=self.grouped
            )
        else:
            y_BHTE = attend(q_BHTE, k_BKTE, v_BKTE, cu_doc_lens)
        return self.w_out(y_BHTE.transpose(1, 2).flatten(2))


def rope_tables(config: ModelConfig, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of every angle, each (length, E), float32.

    Halves are rotated, not interleaved pairs: both halves of the last dimension hold the same
    angles. The sine's first half is negated, so that `apply_rope` is two multiplications and one
    roll.
    """
    size = config.head_dim
    exponent = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    frequency = 1.0 / (config.rope_theta**exponent)
    angle = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequency)
    sine, cosine = angle.sin(), angle.cos()
    return torch.cat((-sine, sine), dim=-1), torch.cat((cosine, cosine), dim=-1)


def apply_rope(x_BHTE: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Rotate queries or keys by the angles of their positions; the dtype stays."""
    wide_BHTE = x_BHTE.float()
    halves_swapped_BHTE = wide_BHTE.roll(x_BHTE.shape[-1] // 2, dims=-1)
    return (wide_BHTE * cosine + halves_swapped_BHTE * sine).to(x_BHTE.dtype)
