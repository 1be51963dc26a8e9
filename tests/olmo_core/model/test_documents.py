"""Attention within documents against a mask: the same pairs, logits and gradients."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode

from olmo_core.config.compute import ActivationCheckpointing
from olmo_core.config.model import ModelConfig
from olmo_core.config.placement import CompileConfig
from olmo_core.data.loader import Batch
from olmo_core.model import attention, documents
from olmo_core.model.documents import _attend_flash, attend, cu_doc_lens_of, document_mask
from olmo_core.model.init import initialise
from olmo_core.model.loss import cross_entropy
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.prepare import checkpoint_activations, compile_blocks
from olmo_core.train.step import documents_of
from tests.olmo_core.parallel.conftest import SHAPE as PLAIN_SHAPE

CPU, LENGTH = torch.device("cpu"), 32
Layout = tuple[tuple[int, ...], tuple[int, ...]]
SHAPE: dict[str, Any] = PLAIN_SHAPE | {
    "d_model": 32,
    "n_heads": 4,
    "n_kv_heads": 2,
    "mlp_hidden_size": 48,
    "max_sequence_length": LENGTH,
}
LAYOUTS: tuple[Layout, ...] = (  # lengths of the documents of two instances
    ((32,), (32,)),
    ((5, 20, 7), (32,)),
    ((1,) * 32, (31, 1)),
    ((2,) * 16, (4,) * 8),
    ((11, *(1,) * 21), (30, 1, 1)),  # padded by tokens that end documents
)


def positions_of(layout: Layout) -> Tensor:
    return torch.stack([torch.cat([torch.arange(n) for n in row]) for row in layout])


def mask_of(positions: Tensor) -> Tensor:
    """Position i of an instance sees j where i - position <= j <= i."""
    at = torch.arange(positions.shape[1])
    return (at >= (at - positions)[:, None, :, None]) & (at <= at[:, None])


def by_mask(positions: Tensor) -> Callable[..., Tensor]:
    def attend_by_mask(q: Tensor, k: Tensor, v: Tensor, cu_doc_lens: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask_of(positions), enable_gqa=True)

    return attend_by_mask


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_a_thousand_layouts_describe_the_pairs_of_the_mask() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        rows, length = int(rng.integers(1, 4)), int(rng.integers(1, 24))
        begins = rng.random((rows, length)) < rng.choice([0, 0.05, 0.3, 1])
        begins[:, 0] = True
        at = np.arange(length)
        positions = torch.from_numpy(at - np.maximum.accumulate(begins * at, axis=1))
        found = cu_doc_lens_of(positions)
        assert found.dtype == torch.int32
        pairs = [
            (i, j)
            for begin, end in itertools.pairwise(found.tolist())
            for i in range(begin, end)
            for j in range(begin, i + 1)
        ]
        row, _, i, j = mask_of(positions).nonzero().T
        wanted = torch.stack((row * length + i, row * length + j), dim=1)
        assert pairs == [tuple(pair) for pair in wanted.tolist()]
        assert torch.equal(document_mask(found, rows, length), mask_of(positions))


def make_model(**shape: Any) -> Transformer:
    model = Transformer(ModelConfig(**{**SHAPE, **shape}))
    initialise(model, seed=3)
    return model


def learn(model: Transformer, layout: Layout | None, *, compiled: bool = False) -> list[Tensor]:
    """Return the states that count, and all gradients, where the last labels are masked."""
    ids = np.random.default_rng(0).integers(0, 63, (2, LENGTH))
    batch = Batch(
        input_ids=ids,
        instance_mask=np.ones(2, dtype=bool),
        label_mask=None,
        positions=None if layout is None else positions_of(layout).numpy(),
        instances=np.arange(2),
    )
    documents = documents_of(batch, slice(None), CPU, compiled=compiled)
    tokens = torch.from_numpy(ids)
    labels = tokens.roll(-1, dims=1)
    labels[:, 20:] = -100
    model.zero_grad()
    hidden = model.hidden(tokens, documents)
    loss, _, _ = cross_entropy(hidden.flatten(0, 1), model.lm_head.weight, labels.flatten())
    loss.backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [hidden[:, :20].detach(), *found]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("strategy", [None, "fine_grained", "whole_layer"])
def test_states_and_gradients_are_those_of_the_mask(
    strategy: ActivationCheckpointing | None, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    if strategy is not None:
        checkpoint_activations(model, strategy)
    if compiled:
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        compile_blocks(model, CompileConfig(backend="aot_eager", fullgraph=True), CPU)
    for layout in LAYOUTS:
        ours = learn(model, layout, compiled=compiled)
        with monkeypatch.context() as patch:
            patch.setattr(attention, "attend", by_mask(positions_of(layout)))
            theirs = learn(make_model(), layout)
        assert len(ours) == len(theirs) == 1 + len(list(model.parameters()))
        errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
        assert max(errors) <= 1e-5, layout
    if compiled:
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # whatever the layout
        with torch.profiler.profile() as profile:
            learn(model, LAYOUTS[1], compiled=True)
        calls = [each.count for each in profile.key_averages() if each.key == "olmo_core::attend"]
        assert calls == [2 * len(model.blocks) if strategy == "whole_layer" else len(model.blocks)]


def test_whole_instances_keep_the_bits_of_causal_attention() -> None:
    model = make_model()
    causal = learn(model, None)
    assert all(map(torch.equal, learn(model, LAYOUTS[0]), causal))
    assert relative_error(learn(model, LAYOUTS[1])[0], causal[0]) > 0.01


class Kernels(TorchDispatchMode):
    """Records the attention that is computed, not what is taken from what was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "attn" in func.name() or "attention" in func.name():
            self.names.append(func.name().partition("::")[2])
        return func(*args, **(kwargs or {}))


FLASH_CPU = "_scaled_dot_product_flash_attention_for_cpu"


def test_fine_grained_attends_to_no_document_twice() -> None:
    model = make_model(n_layers=1)
    checkpoint_activations(model, "fine_grained")
    with Kernels() as kernels:
        learn(model, LAYOUTS[1])
    assert kernels.names == [FLASH_CPU] * 4 + [f"{FLASH_CPU}_backward"] * 4


@pytest.mark.parametrize(
    ("dtype", "kernels"),
    [
        (torch.bfloat16, ["_varlen_attn", "_varlen_attn_backward"]),
        (torch.float32, []),  # the mask, by the products of the math kernel
    ],
)
def test_elsewhere_the_dtype_decides(dtype: torch.dtype, kernels: list[str]) -> None:
    """Without memory: shapes, and one graph for any number of documents, as on CUDA."""
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(attend, dynamic=False, fullgraph=True, backend="aot_eager")
    for number in (2, 7, 64):
        cu_doc_lens = torch.empty(number + 1, dtype=torch.int32, device="meta")
        torch._dynamo.mark_dynamic(cu_doc_lens, 0)
        q, k, v = (
            torch.empty(2, heads, LENGTH, 8, dtype=dtype, device="meta", requires_grad=True)
            for heads in (4, 2, 2)
        )
        with Kernels() as called:
            attend(q, k, v, cu_doc_lens).sum().backward()
        assert called.names == kernels
        y = compiled(q, k, v, cu_doc_lens)
        y.sum().backward()
        assert (y.shape, y.dtype) == (q.shape, dtype)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("causal", "grouped"),
    [
        ({"window_size": (-1, 0)}, {"enable_gqa": True}),
        ({"window_size": (-1, 0)}, {}),  # torch 2.11
        ({"is_causal": True}, {}),  # torch 2.10
    ],
)
def test_the_flash_kernel_gets_all_tokens_in_a_row(
    causal: dict[str, Any], grouped: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[1]

    def stand_in(q: Tensor, k: Tensor, v: Tensor, *lengths: Any, **options: Any) -> Tensor:
        """As torch documents it: (tokens, heads, E), and the first token of each document."""
        cu_seq_q, cu_seq_k, max_q, max_k = lengths
        assert options == causal | grouped
        assert max_q == max_k >= cu_seq_q.diff().max()
        assert torch.equal(cu_seq_q, cu_seq_k)
        y = torch.empty_like(q)
        for begin, end in itertools.pairwise(cu_seq_q.tolist()):
            for head in range(q.shape[1]):
                shared = head // (q.shape[1] // k.shape[1])
                scores = q[begin:end, head] @ k[begin:end, shared].T / q.shape[2] ** 0.5
                scores += torch.full_like(scores, -torch.inf).triu(1)
                y[begin:end, head] = scores.softmax(dim=1) @ v[begin:end, shared]
        return y

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    monkeypatch.setattr(documents, "_CAUSAL", causal)
    monkeypatch.setattr(documents, "_GROUPED", grouped)
    q, k, v = (torch.randn(2, LENGTH, heads, 8).transpose(1, 2) for heads in (4, 2, 2))
    cu_doc_lens = cu_doc_lens_of(positions_of(layout))
    expected = by_mask(positions_of(layout))(q, k, v, cu_doc_lens)
    torch.testing.assert_close(_attend_flash(q, k, v, cu_doc_lens, grouped=True), expected)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_bfloat16_the_kernel_computes_what_the_mask_does(layout: Layout, device: str) -> None:
    positions = positions_of(layout)
    cu_doc_lens = cu_doc_lens_of(positions)
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randn(2, LENGTH, heads, 64, generator=generator).transpose(1, 2).bfloat16()
        for heads in (4, 2, 2, 4)
    ]

    def learned(function: Callable[..., Tensor], at: str, cu_doc_lens: Tensor) -> list[Tensor]:
        *qkv, direction = (x.to(at).requires_grad_() for x in given)
        y = function(*qkv, cu_doc_lens)
        return [x.cpu().float() for x in (y, *torch.autograd.grad(y, qkv, direction))]

    ours = learned(attend, device, cu_doc_lens.to(device))
    theirs = learned(by_mask(positions), "cpu", cu_doc_lens)
    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert max(errors) <= 2e-2
