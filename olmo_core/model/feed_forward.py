"""The SwiGLU feed-forward network."""

from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.config.model import ModelConfig
from olmo_core.model.linear import Linear


class FeedForward(nn.Module):
    """w2(silu(w1 x) * w3 x): w1 the gate, w3 the value; no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, width = config.d_model, config.feed_forward_size
        self.w1 = Linear(d, width)
        self.w2 = Linear(width, d)
        self.w3 = Linear(d, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the network's output (B, T, D)."""
        return self.w2(F.silu(self.w1(x_BTD)) * self.w3(x_BTD))
