"""The two norms of the OLMo families."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.config.model import ModelConfig


class Norm(nn.Module):
    """Normalise the last dimension in float32: RMS norm or layer norm, without a bias.

    The weight, if `affine`, is applied before the cast back to the input's dtype, as OLMo-core and
    transformers do (the first OLMo trainer casts first; in float32 all agree).
    """

    def __init__(self, config: ModelConfig, size: int, *, affine: bool) -> None:
        super().__init__()
        self.rms, self.eps = config.layer_norm_type == "rms", config.layer_norm_eps
        self.size = (size,)
        self.weight = nn.Parameter(torch.ones(size)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised over its last dimension; any leading shape."""
        weight = None if self.weight is None else self.weight.float()
        if self.rms:
            y = F.rms_norm(x.float(), self.size, weight, self.eps)
        else:
            y = F.layer_norm(x.float(), self.size, weight, None, self.eps)
        return y.to(x.dtype)
