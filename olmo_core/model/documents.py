"""Causal attention within the documents of packed instances, without a T × T mask.

Shape suffixes: B instances, T positions, H heads, K key and value heads, E head size, N documents.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_HALF = (torch.bfloat16, torch.float16)
# How `varlen_attn` is told of causal attention and of fewer key heads differs by torch's version;
# torch 2.11 takes fewer heads without being told.
_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
_CAUSAL: dict[str, Any] = {"window_size": (-1, 0)} if _TORCH >= (2, 11) else {"is_causal": True}
_GROUPED: dict[str, Any] = {"enable_gqa": True} if _TORCH >= (2, 12) else {}


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Where a batch's documents lie; a new one begins each instance. Made once for all layers."""

    positions: Tensor  # of each token within its document, int64 (B, T)
    cu_doc_lens: Tensor  # cumulative lengths: 0, …, B·T; int32 (N + 1,)


def cu_doc_lens_of(positions: Tensor) -> Tensor:
    """Return `Documents.cu_doc_lens` of positions (B, T) on the host."""
    cu_doc_lens = (positions.flatten() == 0).nonzero().squeeze(1)
    return F.pad(cu_doc_lens, (0, 1), value=positions.numel()).int()


def attend(q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cu_doc_lens: Tensor) -> Tensor:
    """Return causal attention within documents (B, H, T, E).

    - On a CPU one document after the other is attended to; whole instances all at once, to the bits
      of causal attention.
    - In half precision on CUDA the flash kernel for documents of any length takes `cu_doc_lens`.
    - In float32 on CUDA, where that kernel does not exist, each layer makes a mask (B, 1, T, T).

    Args:
        q_BHTE, k_BKTE, v_BKTE: Of one dtype.
        cu_doc_lens: See `Documents`; on the same device.
    """
    if q_BHTE.device.type == "cpu":
        return _OneByOne.apply(q_BHTE, k_BKTE, v_BKTE, cu_doc_lens)  # pyright: ignore
    grouped = q_BHTE.shape[1] != k_BKTE.shape[1]
    if q_BHTE.dtype in _HALF:
        return _attend_flash(q_BHTE, k_BKTE, v_BKTE, cu_doc_lens, grouped)
    mask = document_mask(cu_doc_lens, len(q_BHTE), q_BHTE.shape[2])
    return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, mask, enable_gqa=grouped)


def document_mask(cu_doc_lens: Tensor, instances: int, length: int) -> Tensor:
    """Return which positions a position sees, bool (B, 1, T, T): its document's up to itself."""
    token = torch.arange(instances * length, device=cu_doc_lens.device)
    document = torch.bucketize(token, cu_doc_lens, right=True).view(instances, 1, length)
    at = token[:length]
    return (document[..., None] == document[:, :, None]) & (at[:, None] >= at)


def _attend_flash(
    q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, cu_doc_lens: Tensor, grouped: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # imports the compiler

    instances, _, length, _ = q_BHTE.shape
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q_BHTE, k_BKTE, v_BKTE))
    # T instead of the longest document: another number would be another graph, and the kernel's
    # blocks beyond a document's end return at once
    heads = _GROUPED if grouped else {}
    y = varlen_attn(q, k, v, cu_doc_lens, cu_doc_lens, length, length, **_CAUSAL, **heads)
    return y.unflatten(0, (instances, length)).transpose(1, 2)  # pyright: ignore


class _OneByOne(torch.autograd.Function):
    # Compiled, the loops over documents are operators: unrolled, each layout would be a graph.
    # Called elsewhere, an operator imports the compiler.

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor) -> Tensor:
        forward = _forward_operator if torch.compiler.is_compiling() else _forward
        y, log_sum = forward(q, k, v, cu_doc_lens)
        ctx.save_for_backward(q, k, v, cu_doc_lens, y, log_sum)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        backward = _backward_operator if torch.compiler.is_compiling() else _backward
        return (*backward(gradients[0], *ctx.saved_tensors), None)


def _places(cu_doc_lens: Tensor, length: int) -> list[tuple[slice, slice, slice]] | None:
    """Return where the documents lie in tensors (B, ·, T, …); None: each is a whole instance."""
    edges: list[int] = cu_doc_lens.tolist()
    if (len(edges) - 1) * length == edges[-1]:
        return None
    places = []
    for begin, end in itertools.pairwise(edges):
        row, at = divmod(begin, length)
        places.append((slice(row, row + 1), slice(None), slice(at, at + end - begin)))
    return places


def _forward(q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Return the attention's output (B, H, T, E) and each query's log-sum, float32 (B, H, T)."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    places = _places(cu_doc_lens, q.shape[2])
    if places is None:
        return kernel(q, k, v, 0.0, True)
    y, log_sum = _forward_room(q, k, v, cu_doc_lens)
    for at in places:
        y[at], log_sum[at] = kernel(q[at], k[at], v[at], 0.0, True)
    return y, log_sum


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor, y: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    given, places = (grad, q, k, v, y, log_sum), _places(cu_doc_lens, q.shape[2])
    if places is None:
        return kernel(*given, 0.0, True)
    gradients = _backward_room(grad, q, k, v, cu_doc_lens, y, log_sum)
    for at in places:
        parts = kernel(*(x[at] for x in given), 0.0, True)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient[at] = part
    return gradients


# Results as the kernel lays them out, which the compiler has to know.


def _forward_room(q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor) -> tuple[Tensor, Tensor]:
    log_sum_BTH = q.new_empty(len(q), q.shape[2], q.shape[1], dtype=torch.float32)
    return torch.empty_like(q), log_sum_BTH.transpose(1, 2)


def _backward_room(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor, y: Tensor, log_sum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rooms = (x.new_empty(x.transpose(1, 2).shape).transpose(1, 2) for x in (q, k, v))
    return tuple(rooms)  # pyright: ignore[reportReturnType]


def _operator(name: str, function: Any, room: Any) -> Any:
    operator = torch.library.custom_op(f"olmo_core::{name}", function, mutates_args=())
    operator.register_fake(room)
    return operator


_forward_operator = _operator("attend", _forward, _forward_room)
_backward_operator = _operator("attend_backward", _backward, _backward_room)
