"""A training step of OLMo 2 1B on one GPU: MFU in bfloat16, ours against AI2's ai2-olmo-core.

examples:
  python benchmarks/gpu_train_step.py                                     one H100 or H200
  python benchmarks/gpu_train_step.py --peer_python=.venv-peer/bin/python   and ai2-olmo-core
  python benchmarks/gpu_train_step.py --shape=tiny --sequence_length=256    on a CPU, to try it

Needs torch, numpy, pyyaml and safetensors beside this checkout. Each contestant runs in a process
of its own, first alone, then again in the other order; blocks are compiled, a step is some
microbatches of random tokens, gradients clipped at 1, and fused AdamW. Ours is set up as
`olmo_core.train` does with `core.deterministic: false`, as theirs (--deterministic: true).
Bars: MFU of at least 50%, 1.1 times ai2-olmo-core. MFU is tokens per second times FLOPs per token
(6 per parameter outside the input table, 6 · layers · width · length for causal attention) over the
dense peak (989 TFLOP/s for bfloat16 on H100 and H200).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "1B": {"d_model": 2048, "n_heads": 16, "n_layers": 16, "feed_forward_size": 8192},
    "tiny": {"d_model": 64, "n_heads": 2, "n_layers": 2, "feed_forward_size": 256},
}
VOCABULARY = {"1B": 100_352, "tiny": 1024}
PEAK = 989e12  # FLOP/s, dense bfloat16, H100 and H200
MFU_BAR, PEER_BAR = 0.5, 1.1
Z_LOSS = 1e-5
OURS, PEER = "ours", "ai2-olmo-core"

Step = Callable[[np.ndarray], torch.Tensor]  # token ids (b, T) -> loss, on the device


def device() -> torch.device:
    """The GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    """The optimizer of both."""
    return torch.optim.AdamW(model.parameters(), lr=4e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


def ours(shape: dict[str, Any]) -> Step:
    """This project's step, put together as `olmo_core.train` does."""
    sys.path.insert(0, str(ROOT))  # of this process alone: AI2's is an olmo_core too
    from olmo2 import batch_of_all, model_config

    from olmo_core.config.compute import CompileConfig
    from olmo_core.model.transformer import Transformer
    from olmo_core.parallel.gradients import ReplicatedGradients
    from olmo_core.parallel.prepare import compile_blocks
    from olmo_core.train.step import SUMS, autocast, forward_backward

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(shape["deterministic"])
    model = Transformer(model_config(shape)).to(device())
    _fill(model)
    compile_blocks(model, CompileConfig(), device())
    gradients = ReplicatedGradients(model.parameters(), sums=len(SUMS))
    optimizer = adamw(model)

    def step(ids: np.ndarray) -> torch.Tensor:
        batch = batch_of_all(ids)
        gradients.zero()
        with autocast("amp_bf16", device()):
            forward_backward(
                model,
                batch,
                gradients,
                microbatch_size=shape["microbatch_size"],
                z_loss=Z_LOSS,
                compiled=True,
            )
        labels = gradients.sums[SUMS.index("labels")]
        gradients.normalise(labels, 1.0)
        optimizer.step()
        return gradients.sums[SUMS.index("cross_entropy")] / labels

    return step


def ai2_olmo_core(shape: dict[str, Any]) -> Step:
    """AI2's library: the model, loss and autocast of its train module, compiled by itself."""
    from olmo_core.nn.transformer import TransformerConfig  # pyright: ignore

    reordered = TransformerConfig.olmo2_190M(vocab_size=shape["vocab_size"]).block.name
    config = TransformerConfig.llama_like(
        d_model=shape["d_model"],
        vocab_size=shape["vocab_size"],
        n_layers=shape["n_layers"],
        n_heads=shape["n_heads"],
        hidden_size_multiplier=1.5,
        block_name=reordered,
        qk_norm=True,
        rope_theta=500_000,
        layer_norm_eps=1e-6,
    )
    model = config.build(init_device="cpu").to(device())
    model.init_weights(max_seq_len=shape["sequence_length"], device=device())
    _fill(model)
    model.apply_compile()
    optimizer = adamw(model)

    def step(ids: np.ndarray) -> torch.Tensor:
        tokens = torch.from_numpy(ids).to(device())
        labels = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
        count = (labels != -100).sum()
        total = torch.zeros((), device=device())
        size = shape["microbatch_size"]
        for part, answers in zip(tokens.split(size), labels.split(size), strict=True):
            with torch.autocast(device().type, dtype=torch.bfloat16):
                out = model(
                    part,
                    labels=answers,
                    loss_reduction="sum",
                    z_loss_multiplier=Z_LOSS,
                    loss_div_factor=count,
                    return_logits=False,
                )
            out.loss.backward()
            total += out.ce_loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def _fill(model: torch.nn.Module) -> None:
    """Normal first weights, norms at 1; both count the same parameters, in another order."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=0.02)


def run(name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """Make the steps, the first three untimed; the device is waited for once at each end."""
    step = ours(shape) if name == OURS else ai2_olmo_core(shape)
    generator = np.random.default_rng(0)
    size = (shape["microbatches"] * shape["microbatch_size"], shape["sequence_length"])
    batches = [
        generator.integers(2, shape["vocab_size"], size=size, dtype=np.int64) for _ in range(4)
    ]
    losses = [step(batches[i % 4]).item() for i in range(3)]
    start = time.perf_counter()
    for i in range(shape["steps"]):
        loss = step(batches[i % 4])
    losses.append(loss.item())
    seconds = (time.perf_counter() - start) / shape["steps"]
    gpu = torch.cuda.is_available()
    return {
        "tokens_per_second": size[0] * size[1] / seconds,
        "losses": losses,
        "peak_bytes": torch.cuda.max_memory_allocated() if gpu else 0,
    }


def ask(name: str, shape: dict[str, Any], python: str) -> dict[str, Any]:
    """Run a contestant in a process of its own."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, str(Path(__file__).resolve()), "--contestant", name, json.dumps(shape)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure and print; 1 where a bar is missed."""
    if sys.argv[1:2] == ["--contestant"]:
        print(json.dumps(run(sys.argv[2], json.loads(sys.argv[3]))), flush=True)
        return 0
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="1B" if gpu else "tiny")
    parser.add_argument("--sequence_length", type=int, default=4096 if gpu else 256)
    parser.add_argument("--microbatch_size", type=int, default=4, help="instances")
    parser.add_argument("--microbatches", type=int, default=4, help="of a step")
    parser.add_argument("--steps", type=int, default=12 if gpu else 3)
    parser.add_argument("--deterministic", action="store_true", help="ours")
    parser.add_argument("--peer_python", default="", help="a Python that has ai2-olmo-core")
    parser.add_argument("--peak", type=float, default=PEAK, help="FLOP/s, dense")
    arguments = parser.parse_args()
    shape = {**SHAPES[arguments.shape], "vocab_size": VOCABULARY[arguments.shape]}
    for key in ("sequence_length", "microbatch_size", "microbatches", "steps", "deterministic"):
        shape[key] = getattr(arguments, key)
    order = [OURS, PEER, PEER, OURS] if arguments.peer_python else [OURS]
    answers: dict[str, list[dict[str, Any]]] = {}
    for name in order:
        python = arguments.peer_python if name == PEER else sys.executable
        answers.setdefault(name, []).append(ask(name, shape, python))
    return report(shape, answers, arguments.peak)


def report(shape: dict[str, Any], answers: dict[str, list[dict[str, Any]]], peak: float) -> int:
    """Print the table; 1 where a bar is missed, on a GPU."""
    sys.path.insert(0, str(ROOT))
    from olmo2 import model_config

    from olmo_core.config.model import flops_per_token

    flops = flops_per_token(model_config(shape), shape["sequence_length"])
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else "CPU: no GPU here, so no bar is measured"
    print(f"{where}; torch {torch.__version__}; {json.dumps(shape)}")
    print(f"{'':16}{'tokens/s':>10}{'MFU':>8}{'peak GiB':>10}  loss, first and last")
    speeds: dict[str, float] = {}
    for name, runs in answers.items():
        speed = speeds[name] = statistics.median(each["tokens_per_second"] for each in runs)
        mfu = f"{speed * flops / peak:.1%}" if gpu else "-"
        losses = runs[0]["losses"]
        print(
            f"{name:16}{speed:10.0f}{mfu:>8}{runs[0]['peak_bytes'] / 2**30:10.1f}"
            f"  {losses[0]:.4f} {losses[-1]:.4f}"
        )
    met = speeds[OURS] * flops / peak >= MFU_BAR
    if PEER in speeds:
        faster = speeds[OURS] / speeds[PEER]
        met = met and faster >= PEER_BAR
        print(f"ours: {faster:.2f} times ai2-olmo-core (bar {PEER_BAR})")
    return 0 if met or not gpu else 1


if __name__ == "__main__":
    sys.exit(main())
