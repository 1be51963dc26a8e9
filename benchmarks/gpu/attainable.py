"""Part `attainable`: what the products and the attention of the shape take, alone."""

from collections.abc import Callable

import torch
from part import CUDA, DEVICE, SHAPE, SMALL, case, finish, milliseconds, say
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from olmo_core.model.documents import attend

DTYPE = torch.bfloat16
TOKENS = SHAPE["microbatch_size"] * SHAPE["sequence_length"]


def products() -> None:
    """Say TFLOP/s of the block's and the head's products: forward, and of both gradients."""
    d, wide, vocabulary = SHAPE["d_model"], SHAPE["feed_forward_size"], SHAPE["vocab_size"]
    rows = TOKENS if SMALL else 4096  # of the head: logits exist in chunks
    for name, m, k, n in (
        ("q, k, v, out", TOKENS, d, d),
        ("w1, w3", TOKENS, d, wide),
        ("w2", TOKENS, wide, d),
        ("head", rows, d, vocabulary),
    ):
        x, w = (torch.randn(size, device=DEVICE, dtype=DTYPE) for size in ((m, k), (n, k)))
        y = torch.randn(m, n, device=DEVICE, dtype=DTYPE)
        for what, multiply in (
            ("forward", lambda x=x, w=w: x @ w.T),
            ("gradient of the input", lambda y=y, w=w: y @ w),
            ("gradient of the weight", lambda y=y, x=x: y.T @ x),
        ):
            with case(f"product {name}, {what}"):
                took = milliseconds(multiply)
                pace = 2 * m * k * n / took / 1e9
                say(f"product {name}, {what}", m_k_n=[m, k, n], ms=took, tflops_per_second=pace)


def attention() -> None:
    """Say what each kernel takes, forward and with its gradients, causal, in bfloat16."""
    heads, size = SHAPE["n_heads"], SHAPE["d_model"] // SHAPE["n_heads"]
    length, b = SHAPE["sequence_length"], SHAPE["microbatch_size"]
    q, k, v = (  # laid out as the model's
        torch.randn(b, length, heads, size, device=DEVICE, dtype=DTYPE)
        .transpose(1, 2)
        .requires_grad_()
        for _ in range(3)
    )

    def causal(backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=True)

    backends = {"flash": SDPBackend.FLASH_ATTENTION}
    if CUDA:
        backends |= {"cuDNN": SDPBackend.CUDNN_ATTENTION}
        backends |= {"efficient": SDPBackend.EFFICIENT_ATTENTION}
    for name, backend in backends.items():
        time_attention(name, lambda backend=backend: causal(backend), (q, k, v))
    torch.use_deterministic_algorithms(True)
    # as `prepare_arithmetic` does: no fresh tensor is filled
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore
    time_attention("flash, deterministic", lambda: causal(SDPBackend.FLASH_ATTENTION), (q, k, v))
    torch.use_deterministic_algorithms(False)
    for documents in (1, 8):
        ends = torch.arange(0, TOKENS + 1, length // documents, dtype=torch.int32, device=DEVICE)
        name = f"within documents, {documents} an instance"
        time_attention(name, lambda ends=ends: attend(q, k, v, ends), (q, k, v))


def time_attention(name: str, attended: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> None:
    """Say its milliseconds, and those of all layers of the model."""
    with case(f"attention {name}"):
        gradient = torch.randn_like(attended())

        def both() -> None:
            torch.autograd.grad(attended(), inputs, gradient)

        forward, together = milliseconds(attended), milliseconds(both)
        say(
            f"attention {name}",
            ms_forward=forward,
            ms_forward_and_backward=together,
            ms_all_layers=SHAPE["n_layers"] * together,
        )


if __name__ == "__main__":
    products()
    attention()
    finish()
