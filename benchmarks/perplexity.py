"""Log-likelihood of documents: our evaluator against lm-eval's rolling one, in CPU-seconds.

examples:
  python benchmarks/perplexity.py                        20M parameters, 4 rounds: five minutes
  python benchmarks/perplexity.py --rounds=7 --documents=60
  python benchmarks/perplexity.py --batch_size 1 4

Random weights of OLMo 2's shape (d 256, 8 layers, 50,304 rows), one thread, float32. The documents
are the language manual that every Python carries, cut to lengths from a line to several windows.
Contestants take turns in one process, from texts to log-likelihoods; models are loaded before. Each
of lm-eval's batch sizes (windows, in the order of the documents) is one. Ratios are the medians of
those within a round. Bound: each document's figure is lm-eval's to 1e-6.

A line says how long the multiplications alone would take, without padding, at the rate of the
product with the head on this machine: no evaluator in float32 is faster.
"""

import argparse
import math
import os
import platform
import pydoc_data.topics
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read when the libraries are imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "RAYON_NUM_THREADS": "1"}
os.environ |= {"TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from olmo2 import model_config, write_random_model

from olmo_core.checkpoint.huggingface import load_exported, load_pretrained
from olmo_core.config.paths import package_folder
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.evals.perplexity.scoring import HEAD_ROWS, HEAD_WIDTH, score_documents
from olmo_core.evals.perplexity.windows import windows
from olmo_core.model.linear import matmul_prepacked, prepacked

CLOSE = 1e-6  # relative
WINDOW = 1024
EOS = 50_279
SHAPE = {
    "d_model": 256,
    "n_heads": 4,
    "n_layers": 8,
    "feed_forward_size": 1024,
    "vocab_size": 50_304,
    "sequence_length": WINDOW,
}
LENGTHS = (80, 300, 1000, 3000, 9000)  # characters, in turn


def texts_of(documents: int) -> list[str]:
    """Return so many texts of different lengths, of the language manual."""
    manual = "\n".join(pydoc_data.topics.topics.values())
    lengths = [LENGTHS[number % len(LENGTHS)] for number in range(documents)]
    starts = [len(manual) * number // documents for number in range(documents)]
    return [manual[start : start + size] for start, size in zip(starts, lengths, strict=True)]


def export(folder: Path) -> None:
    """Write a model of random weights as a Hugging Face folder, with OLMo 1's tokenizer."""
    write_random_model(folder, model_config(SHAPE), eos_token_id=EOS)
    tokenizer = package_folder("olmo_eval") / "tokenizers" / "allenai_gpt-neox-olmo-dolma-v1_5.json"
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())


def ours(folder: Path, batch_tokens: int) -> Callable[[list[str]], list[float]]:
    """Return our evaluator, as the asset `perplexity` uses it on one core."""
    model = load_exported(folder, torch.device("cpu"))
    tokenizer = read_tokenizer(folder / "tokenizer.json")

    def score(texts: list[str]) -> list[float]:
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        scored = score_documents(
            [model],
            (np.array(each.ids, np.int32) for each in encoded),
            eos_token_id=EOS,
            max_window=WINDOW,
            batch_tokens=batch_tokens,
        )
        return [value for _, value in scored]

    return score


def lm_eval(folder: Path, batch_size: int) -> Callable[[list[str]], list[float]]:
    """Return lm-eval's rolling log-likelihood."""
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|endoftext|>",
        model_max_length=WINDOW,
    )
    assert tokenizer.eos_token_id == EOS
    arguments: dict[str, Any] = {
        "pretrained": load_pretrained(folder, torch.device("cpu")),
        "tokenizer": tokenizer,
        "batch_size": batch_size,
        "logits_cache": False,  # with it, windows that repeat themselves get others' figures
    }
    model: Any = HFLM(**arguments)

    class Request:
        def __init__(self, text: str) -> None:
            self.args = (text,)

    def score(texts: list[str]) -> list[float]:
        requests: Any = [Request(text) for text in texts]
        return model.loglikelihood_rolling(requests, disable_tqdm=True)

    return score


def multiplications(lengths: list[int]) -> float:
    """Return the floating-point operations for documents of so many tokens, padding left out."""
    d, layers = SHAPE["d_model"], SHAPE["n_layers"]
    block = 4 * d * d + 3 * d * SHAPE["feed_forward_size"]
    in_all = 0.0
    for length in lengths:
        in_all += 2 * length * d * SHAPE["vocab_size"]  # each token is scored once
        for window in windows(range(length), prefix=EOS, max_window=WINDOW):
            read = len(window.inputs)
            in_all += layers * (2 * read * block + 2 * read * read * d)  # half of them is masked
    return in_all


def product_rate() -> float:
    """Return the operations a second of the head's product, at best, as the evaluator takes it."""
    states, weight = (
        torch.randn(HEAD_ROWS, SHAPE["d_model"]),
        torch.randn(HEAD_WIDTH, SHAPE["d_model"]),
    )
    packed = prepacked(weight, states)
    best = math.inf
    for _ in range(20):
        start = time.process_time()
        matmul_prepacked(states, packed)
        best = min(best, time.process_time() - start)
    return 2 * states.numel() * HEAD_WIDTH / best


def main() -> None:
    """Print the seconds of each round, tokens a second, and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--batch_tokens", type=int, default=2048)
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = texts_of(options.documents)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder)
        encoded = read_tokenizer(folder / "tokenizer.json").encode_batch(texts)
        tokens = sum(len(each.ids) for each in encoded)
        contestants = {
            "ours": ours(folder, options.batch_tokens),
            **{f"lm-eval, {size}": lm_eval(folder, size) for size in options.batch_size},
        }
        print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
        print(f"{options.documents} documents, {tokens} tokens; CPU-seconds per round", flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        found: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, score in contestants.items():
                start = time.process_time()
                found[name] = score(texts)
                seconds[name].append(time.process_time() - start)
            print(", ".join(f"{name} {each[-1]:.2f}" for name, each in seconds.items()), flush=True)
    for name, each in seconds.items():
        rate = tokens / statistics.median(each)
        ratios = [b / a for a, b in zip(seconds["ours"], each, strict=True)]
        print(
            f"{name}: {statistics.median(each):.2f} s, {rate:.0f} tokens a CPU-second, "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of ours"
        )
    operations, rate = multiplications([len(each.ids) for each in encoded]), product_rate()
    least = operations / rate
    print(
        f"multiplications alone: {operations / 1e9:.0f} GFLOP at {rate / 1e9:.1f} GFLOP/s, "
        f"{least:.2f} s, {least / statistics.median(seconds['ours']):.2f} of ours"
    )
    apart = max(
        abs(a - b) / abs(b)
        for each in found.values()
        for a, b in zip(found["ours"], each, strict=True)
    )
    print(f"largest relative distance of a document's figure: {apart:.1e}")
    if apart > CLOSE:
        raise SystemExit(f"above the bound of {CLOSE}")


if __name__ == "__main__":
    main()
