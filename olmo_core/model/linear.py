"""Linear maps and products of large float32 matrices on a CPU, by oneDNN where it is faster.

torch multiplies float32 matrices on a CPU with MKL. On AMD cores, with AVX-512 and with AVX2 alone,
oneDNN takes about a tenth less time if both factors are row-major (docs/performance.md,
`benchmarks/matmul.py`). Both are exact float32 and sum in a fixed order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Multiplications below which calling oneDNN costs more than it saves.
_LARGE = 1 << 26

_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.backends.cpu.get_cpu_capability().startswith(("AVX2", "AVX512"))
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
)


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN beats torch's own product for x (…, K) and weight (N, K)."""
    return (
        _ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= _LARGE
    )


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return a (M, K) times b (K, N), float32 on a CPU; fastest if both are row-major."""
    # `torch.compile` must leave it as it is; called elsewhere, an operator imports the compiler
    return _operator(a, b) if torch.compiler.is_compiling() else _matmul(a, b)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if is_faster(a, b.T):
        return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
    return a @ b


@torch.library.custom_op("olmo_core::matmul", mutates_args=())
def _operator(a: Tensor, b: Tensor) -> Tensor:
    return _matmul(a, b)


@_operator.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def prepacked(weight: Tensor, x: Tensor) -> Tensor:
    """Return weight (N, K) in the layout that `matmul_prepacked` multiplies fastest with x (M, K).

    The layout is opaque where oneDNN is used.
    """
    if is_faster(x, weight):
        return torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return weight


def matmul_prepacked(x: Tensor, weight: Tensor) -> Tensor:
    """Return x (M, K) times the transpose of a weight (N, K) that `prepacked` returned."""
    if weight.is_mkldnn:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return x @ weight.T


def matmul_add(a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
    """Return c + a b for a (M, K), b (K, N), in one pass over the result; may overwrite c.

    The product is as wide as c, also where its factors are narrower: it is not rounded to theirs.
    """
    if c is None:
        return matmul(a, b)
    if a.dtype != c.dtype:
        if c.is_cuda:
            return torch.addmm(c, a, b, out_dtype=c.dtype, out=c)
        a, b = a.to(c.dtype), b.to(c.dtype)  # no kernel of a CPU does; the products are exact
    if is_faster(a, b.T):
        return torch.ops.mkldnn._linear_pointwise.binary(a, c, b.T, None, "add")
    return c.addmm_(a, b)


class Undrawn(nn.Module):
    """Mix into a layer of torch: on the meta device no weights are drawn.

    Drawing there imports torch's compiler, 2.4 s of a job's start (torch 2.13).
    """

    weight: Tensor

    def reset_parameters(self) -> None:
        """Draw torch's default weights, unless they have no memory."""
        if not self.weight.is_meta:
            super().reset_parameters()  # pyright: ignore


class Linear(Undrawn, nn.Linear):
    """Map linearly as torch's layer without a bias, laid out for oneDNN."""

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
        y = matmul(x.flatten(0, -2), weight.T.contiguous())
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
                grad_weight = matmul(gradient.T.contiguous(), rows)
            else:
                grad_weight = matmul(rows.T.contiguous(), gradient).T.contiguous()
        return grad_x, grad_weight
