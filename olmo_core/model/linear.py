"""A linear map without a bias that lays out float32 matrices on a CPU for oneDNN."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.model.matmul import contiguous_transpose, is_faster, matmul


class Linear(nn.Linear):
    """torch's linear layer without a bias."""

    def __init__(self, size: int, out_size: int) -> None:
        super().__init__(size, out_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (…, size) times the transposed weight (…, out_size)."""
        if torch.is_autocast_enabled(x.device.type) or not is_faster(x, self.weight):
            return F.linear(x, self.weight)
        return _Linear.apply(x, self.weight)  # pyright: ignore


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = matmul(x.flatten(0, -2), contiguous_transpose(weight))
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient, rows = gradients[0].flatten(0, -2), x.flatten(0, -2)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = matmul(gradient, weight).view_as(x)
        if ctx.needs_input_grad[1]:
            # One factor has to be transposed: the narrower costs less.
            if weight.shape[0] < weight.shape[1]:
                grad_weight = matmul(contiguous_transpose(gradient), rows)
            else:
                grad_weight = contiguous_transpose(matmul(contiguous_transpose(rows), gradient))
        return grad_x, grad_weight
