"""Causal self-attention of both families: optional qk-norm, clipping and grouped queries."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.config.model import ModelConfig
from olmo_core.model.linear import Linear
from olmo_core.model.norm import LayerNorm, RMSNorm
from olmo_core.model.rope import apply_rope


class Attention(nn.Module):
    """Queries attend to the past; scale 1/sqrt(head size); no biases."""

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
            kind = RMSNorm if config.layer_norm_type == "rms" else LayerNorm
            affine = config.attention_layer_norm_with_affine
            self.q_norm = kind(d, eps=config.layer_norm_eps, affine=affine)
            self.k_norm = kind(kv, eps=config.layer_norm_eps, affine=affine)

    def forward(
        self, x: Tensor, sine: Tensor, cosine: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Map x (B, T, d) to (B, T, d).

        Args:
            x: The stream.
            sine, cosine: Of each position's angles, (T, head_dim) or (B, 1, T, head_dim).
            mask: Which positions a position sees, bool (B, 1, T, T); None: all of the past.
        """
        q, k, v = self.w_q(x), self.w_k(x), self.w_v(x)  # (B, T, d), (B, T, kv), (B, T, kv)
        if self.clip is not None:
            q, k, v = (y.clamp(-self.clip, self.clip) for y in (q, k, v))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)  # over all heads at once
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in (q, k, v))
        q, k = apply_rope(q, sine, cosine), apply_rope(k, sine, cosine)  # (B, H, T, D)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=self.grouped
        )
        return self.w_out(y.transpose(1, 2).flatten(2))  # (B, T, d)


def document_mask(positions: Tensor) -> Tensor:
    """Which positions a position sees where attention stays within documents: the causal part.

    Args:
        positions: Each token's position within its document, int64 (B, T).

    Returns:
        bool (B, 1, T, T), for all heads: [b, 0, i, j] is i - positions[b, i] <= j <= i.
    """
    at = torch.arange(positions.shape[1], device=positions.device)
    begin = (at - positions)[:, None, :, None]  # of each position's document
    return (at >= begin) & (at <= at[:, None])
