"""The two norms of the OLMo families."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Divide by the root mean square, then multiply by a weight if `affine`; all in float32.

    The weight is applied before the cast back to the input's dtype, as OLMo-core and transformers
    do (the first OLMo trainer casts first; in float32 all agree).
    """

    def __init__(self, size: int, *, eps: float, affine: bool = True) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised over its last dimension; any leading shape."""
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), (self.size,), weight, self.eps).to(x.dtype)


class LayerNorm(nn.Module):
    """Layer norm in float32 without a bias, and without a weight unless `affine`."""

    def __init__(self, size: int, *, eps: float, affine: bool = False) -> None:
        super().__init__()
        self.size, self.eps = size, eps
        self.weight = nn.Parameter(torch.ones(size)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised over its last dimension; any leading shape."""
        weight = None if self.weight is None else self.weight.float()
        return F.layer_norm(x.float(), (self.size,), weight, None, self.eps).to(x.dtype)
