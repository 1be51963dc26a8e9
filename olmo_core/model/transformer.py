"""The OLMo 1 and OLMo 2 decoder: pure mathematics, on the device of its parameters.

Shape suffixes: B batch, T positions, D d_model, V padded vocabulary.

Parameter names are the format of our weights files:
`embeddings.weight`, `blocks.{i}.attention.{w_q,w_k,w_v,w_out}.weight`,
`blocks.{i}.attention.{q_norm,k_norm}.weight`, `blocks.{i}.attention_norm.weight`,
`blocks.{i}.feed_forward.{w1,w2,w3}.weight`, `blocks.{i}.feed_forward_norm.weight`, `norm.weight`,
`lm_head.weight`. A norm without a weight has no entry; a tied head is `embeddings.weight` alone.
"""

import torch
from torch import Tensor, nn

from olmo_core.config.model import ModelConfig
from olmo_core.model.attention import Attention, document_mask
from olmo_core.model.feed_forward import FeedForward
from olmo_core.model.norm import LayerNorm, RMSNorm
from olmo_core.model.rope import rope_tables


def make_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """Build a norm of the residual stream."""
    kind = RMSNorm if config.layer_norm_type == "rms" else LayerNorm
    return kind(config.d_model, eps=config.layer_norm_eps, affine=config.layer_norm_with_affine)


class Block(nn.Module):
    """Attention and feed-forward, each with a norm: after it (OLMo 2) or before it (OLMo 1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_after = config.norm_after
        self.attention = Attention(config)
        self.attention_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config)

    def forward(
        self, x_BTD: Tensor, sine: Tensor, cosine: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after this block (B, T, D); arguments as for `Attention`."""
        if self.norm_after:
            x_BTD = x_BTD + self.attention_norm(self.attention(x_BTD, sine, cosine, mask))
            return x_BTD + self.feed_forward_norm(self.feed_forward(x_BTD))
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), sine, cosine, mask)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class Transformer(nn.Module):
    """Map token ids to logits. Weights are torch's defaults until `model.init.initialise`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.padded_vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        self.lm_head = nn.Linear(config.d_model, config.padded_vocab_size, bias=False)
        if config.weight_tying:
            self.lm_head.weight = self.embeddings.weight
        self._rope: tuple[Tensor, Tensor] | None = None

    def hidden(self, input_ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return the final normed states (B, T, D).

        Args:
            input_ids: Token ids, int64 (B, T).
            positions: Each token's position within its document, int64 (B, T): attention and
                rotary positions then stay within documents. None: an instance is one document.
        """
        sine, cosine = self._rope_for(input_ids)
        mask = None
        if positions is not None:
            sine, cosine = (table[positions].unsqueeze(1) for table in (sine, cosine))
            mask = document_mask(positions)
        x_BTD = self.embeddings(input_ids)
        for block in self.blocks:
            x_BTD = block(x_BTD, sine, cosine, mask)
        return self.norm(x_BTD)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T), padding rows of the vocabulary included."""
        return self.lm_head(self.hidden(input_ids))

    def _rope_for(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        length = input_ids.shape[1]
        if (
            self._rope is None
            or len(self._rope[0]) < length
            or (self._rope[0].device != input_ids.device)
        ):
            with torch.autocast(input_ids.device.type, enabled=False):
                self._rope = rope_tables(
                    self.config.head_dim,
                    self.config.rope_theta,
                    max(length, self.config.max_sequence_length),
                    input_ids.device,
                )
        return self._rope[0][:length], self._rope[1][:length]
