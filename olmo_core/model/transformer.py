"""The OLMo 1 and OLMo 2 decoder: pure mathematics, on the device of its parameters.

Shape suffixes: B batch, T positions, D d_model, V padded vocabulary.

Parameter names are the format of our weights files:
`embeddings.weight`, `blocks.{i}.attention.{w_q,w_k,w_v,w_out}.weight`,
`blocks.{i}.attention.{q_norm,k_norm}.weight`, `blocks.{i}.attention_norm.weight`,
`blocks.{i}.feed_forward.{w1,w2,w3}.weight`, `blocks.{i}.feed_forward_norm.weight`, `norm.weight`,
`lm_head.weight`. A norm without a weight has no entry; a tied head is `embeddings.weight` alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.config.model import ModelConfig
from olmo_core.model.attention import Attention, rope_tables
from olmo_core.model.documents import Documents
from olmo_core.model.linear import Linear, Undrawn
from olmo_core.model.norm import Norm

Criterion = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def make_norm(config: ModelConfig) -> Norm:
    """Build a norm of the residual stream."""
    return Norm(config, config.d_model, affine=config.layer_norm_with_affine)


class FeedForward(nn.Module):
    """Compute SwiGLU, w2(silu(w1 x) * w3 x): w1 the gate, w3 the value; no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, width = config.d_model, config.feed_forward_size
        self.w1 = Linear(d, width)
        self.w2 = Linear(width, d)
        self.w3 = Linear(d, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the network's output (B, T, D)."""
        return self.w2(F.silu(self.w1(x_BTD)) * self.w3(x_BTD))


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
        self, x_BTD: Tensor, sine: Tensor, cosine: Tensor, cu_doc_lens: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after this block (B, T, D); arguments as for `Attention`."""
        if self.norm_after:
            x_BTD = x_BTD + self.attention_norm(self.attention(x_BTD, sine, cosine, cu_doc_lens))
            return x_BTD + self.feed_forward_norm(self.feed_forward(x_BTD))
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), sine, cosine, cu_doc_lens)
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))


class _Embedding(Undrawn, nn.Embedding):
    pass


class _Head(Undrawn, nn.Linear):
    def loss(self, criterion: Criterion, hidden: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Return `criterion` with this weight, which is whole here however it is sharded."""
        return criterion(hidden, self.weight, labels)


class Transformer(nn.Module):
    """Map token ids to logits. Weights are torch's defaults until `model.init.initialise`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embedding(config.padded_vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        self.lm_head = _Head(config.d_model, config.padded_vocab_size, bias=False)
        if config.weight_tying:
            self.lm_head.weight = self.embeddings.weight
        self._rope: tuple[Tensor, Tensor] | None = None

    def hidden(self, input_ids: Tensor, documents: Documents | None = None) -> Tensor:
        """Return the final normed states (B, T, D).

        Args:
            input_ids: Token ids, int64 (B, T).
            documents: Attention and rotary positions stay within them. None: an instance is one.
        """
        sine, cosine = self._rope_for(input_ids)
        cu_doc_lens = None
        if documents is not None:
            sine, cosine = (table[documents.positions].unsqueeze(1) for table in (sine, cosine))
            cu_doc_lens = documents.cu_doc_lens
        x_BTD = self.embeddings(input_ids)
        device = x_BTD.device.type
        if torch.is_autocast_enabled(device):  # so the residual stream is, however weights are held
            x_BTD = x_BTD.to(torch.get_autocast_dtype(device))
        for block in self.blocks:
            x_BTD = block(x_BTD, sine, cosine, cu_doc_lens)
        return self.norm(x_BTD)

    def loss(
        self,
        criterion: Criterion,
        input_ids: Tensor,
        labels: Tensor,
        documents: Documents | None = None,
    ) -> tuple[Tensor, ...]:
        """Return `criterion` of the final states, which makes the logits that it needs.

        Args:
            criterion: Of states (N, D), head (V, D) and labels (N,), over N positions.
            input_ids: As for `hidden`.
            labels: Targets, int64 (B, T).
            documents: As for `hidden`.
        """
        hidden_ND = self.hidden(input_ids, documents).flatten(0, 1)
        return self.lm_head.loss(criterion, hidden_ND, labels.flatten())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits (B, T, V) of token ids (B, T), padding rows of the vocabulary included."""
        return self.lm_head(self.hidden(input_ids))

    def _rope_for(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        length, device = input_ids.shape[1], input_ids.device
        if self._rope is None or len(self._rope[0]) < length or self._rope[0].device != device:
            longest = max(length, self.config.max_sequence_length)
            with torch.autocast(device.type, enabled=False):
                self._rope = rope_tables(self.config, longest, device)
        return self._rope[0][:length], self._rope[1][:length]
