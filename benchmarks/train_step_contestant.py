"""One contestant of train_step.py, in a process of its own: makes and times each step it is told.

Run as `python train_step_contestant.py CONTESTANT SHAPE`, SHAPE as JSON. Answers each line on
standard input with one JSON object: a number makes that step (seconds, loss, peak memory), and
`matmul` measures a plain product. Weights and batches come from a seed, the same for all
contestants; the names of the weights are translated here.
"""

import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY = 1e-3, (0.9, 0.95), 1e-8, 0.1
_NAMES = {  # ours -> transformers'
    "blocks.": "model.layers.",
    "attention.w_q": "self_attn.q_proj",
    "attention.w_k": "self_attn.k_proj",
    "attention.w_v": "self_attn.v_proj",
    "attention.w_out": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "attention_norm": "post_attention_layernorm",
    "feed_forward_norm": "post_feedforward_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "embeddings.": "model.embed_tokens.",
}

Step = Callable[[np.ndarray], float]  # token ids (b, T) -> loss


def fill(parameters: dict[str, torch.nn.Parameter]) -> None:
    """Give the parameters, by our names, the same first weights for every contestant."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in sorted(parameters):
            weight = parameters[name]
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)


def batch_of(shape: dict[str, Any], step: int) -> np.ndarray:
    """The token ids of a step: random, so that no contestant can learn which rows to skip."""
    generator = np.random.default_rng(step)
    size = (shape["microbatch_tokens"] // shape["sequence_length"], shape["sequence_length"])
    return generator.integers(2, shape["vocab_size"], size=size, dtype=np.int64)


def adamw(parameters: Any) -> torch.optim.AdamW:
    """The optimizer of every contestant."""
    return torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )


def ours(shape: dict[str, Any], *, compiled: bool) -> Step:
    """This project's step, put together as `olmo_core.train` does."""
    from olmo2 import batch_of_all, model_config

    from olmo_core.config.placement import CompileConfig
    from olmo_core.config.train import CoreConfig
    from olmo_core.model.transformer import Transformer
    from olmo_core.parallel.gradients import ReplicatedGradients
    from olmo_core.parallel.prepare import compile_blocks
    from olmo_core.train.host_memory import keep_freed_memory
    from olmo_core.train.run import prepare_arithmetic
    from olmo_core.train.step import SUMS, forward_backward

    prepare_arithmetic(CoreConfig(threads=shape["threads"]))
    keep_freed_memory()
    model = Transformer(model_config(shape))
    fill(dict(model.named_parameters()))
    if compiled:
        compile_blocks(model, CompileConfig(), torch.device("cpu"))
    optimizer = adamw(model.parameters())
    gradients = ReplicatedGradients(model.parameters(), sums=len(SUMS))

    def step(ids: np.ndarray) -> float:
        batch = batch_of_all(ids)
        gradients.zero()
        forward_backward(model, batch, gradients, microbatch_size=len(ids), z_loss=0.0)
        sums = gradients.sums
        labels = sums[SUMS.index("labels")].clamp(min=1.0)
        gradients.normalise(labels, 1.0)
        optimizer.step()
        return (sums[SUMS.index("cross_entropy")] / labels).item()

    return step


def transformers_olmo2(shape: dict[str, Any]) -> Step:
    """transformers' `Olmo2ForCausalLM`, its own loss, sdpa."""
    import transformers

    config = transformers.Olmo2Config(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["d_model"],
        intermediate_size=shape["feed_forward_size"],
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        num_key_value_heads=shape["n_heads"],
        max_position_embeddings=shape["sequence_length"],
        tie_word_embeddings=False,
        rope_parameters={"rope_theta": 500_000.0, "rope_type": "default"},
        rms_norm_eps=1e-6,
        use_cache=False,
        eos_token_id=0,
        pad_token_id=1,
    )
    config._attn_implementation = "sdpa"
    model = transformers.Olmo2ForCausalLM(config)
    fill({_ours(name): value for name, value in model.named_parameters()})
    return _plain_step(model, lambda ids: model(input_ids=ids, labels=ids).loss)


def _ours(name: str) -> str:
    for mine, theirs in _NAMES.items():
        name = name.replace(theirs, mine)
    return "norm.weight" if name == "model.norm.weight" else name


def ai2_olmo_core(shape: dict[str, Any], *, compiled: bool) -> Step:
    """AI2's library: the model and loss of its train module, compiled as it compiles itself."""
    from ai2_olmo_core import build

    model = build(shape, torch.device("cpu"))
    theirs = {"lm_head.norm.weight": "norm.weight", "lm_head.w_out.weight": "lm_head.weight"}
    fill({theirs.get(name) or name: value for name, value in model.named_parameters()})
    if compiled:
        model.apply_compile()

    def loss(ids: Tensor) -> Tensor:
        labels = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
        out = model(
            ids,
            labels=labels,
            loss_reduction="sum",
            loss_div_factor=(labels != -100).sum(),
            return_logits=False,
        )
        return out.loss

    return _plain_step(model, loss)


def _plain_step(model: torch.nn.Module, loss_of: Callable[[Tensor], Tensor]) -> Step:
    model.train()
    optimizer = adamw(model.parameters())

    def step(ids: np.ndarray) -> float:
        loss = loss_of(torch.from_numpy(ids))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "ours": lambda shape: ours(shape, compiled=False),
    "ours, compiled": lambda shape: ours(shape, compiled=True),
    "transformers": transformers_olmo2,
    "ai2-olmo-core": lambda shape: ai2_olmo_core(shape, compiled=False),
    "ai2-olmo-core, compiled": lambda shape: ai2_olmo_core(shape, compiled=True),
}


def answer(step: Step, shape: dict[str, Any], line: str) -> dict[str, float]:
    """Make the step that `line` names, or measure a product of 2048 by 2048 matrices."""
    if line == "matmul":
        a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
        seconds: list[float] = []
        for _ in range(8):
            start = time.perf_counter()
            torch.mm(a, b)
            seconds.append(time.perf_counter() - start)
        return {"flops_per_second": 2 * 2048**3 / min(seconds)}
    ids = batch_of(shape, int(line))
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    loss = step(ids)
    seconds_of_step = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds_of_step,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "page_faults": after.ru_minflt - before.ru_minflt,
        "loss": loss,
        "peak_bytes": after.ru_maxrss * 1024,
    }


def main() -> None:
    """Answer standard input line by line."""
    name, shape = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(shape["threads"])
    step = CONTESTANTS[name](shape)
    package = "transformers" if name == "transformers" else "ai2-olmo-core"
    versions = {"torch": str(torch.__version__)}
    if not name.startswith("ours"):
        versions[package] = importlib.metadata.version(package)
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(step, shape, line.strip())), flush=True)


if __name__ == "__main__":
    main()
