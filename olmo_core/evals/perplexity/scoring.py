"""Log-likelihood of documents under our model, with windows of similar length in one batch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from olmo_core.checkpoint.huggingface import device_for_evaluation, load_exported
from olmo_core.evals.perplexity.windows import Window, batches, windows
from olmo_core.model.linear import matmul_prepacked, prepacked
from olmo_core.model.transformer import Transformer

# Of the logits that are in memory at once: positions, and rows of the vocabulary (as in training).
HEAD_ROWS, HEAD_WIDTH = 1024, 4192
LEAST, MOST = 2.0**-60, 2.0**100  # sums of powers of logits that float32 holds to full precision
BUFFER_BATCHES = 256  # of documents that are held at once, to find windows of like length


def load_replicas(folder: Path, processes: int) -> list[Transformer]:
    """Return the model of a Hugging Face folder, once per batch that is computed at a time.

    On a CPU that is the same model `processes` times, each for one torch thread; else one per GPU.

    Raises:
        InputError: as `load_exported`.
    """
    torch.set_num_threads(1)
    if device_for_evaluation().type == "cpu":
        return [load_exported(folder, torch.device("cpu"))] * processes
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [load_exported(folder, gpu) for gpu in gpus]


def score_documents(
    replicas: Sequence[Transformer],
    documents: Iterable[np.ndarray],
    *,
    eos_token_id: int,
    max_window: int,
    batch_tokens: int,
    scored: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, float]]:
    """Yield the number of tokens and the log-likelihood (nats) of each document, in their order.

    Documents are read as they are needed: those of `BUFFER_BATCHES` batches, or one that is longer,
    are in memory at once.

    Args:
        replicas: One model per batch that is computed at once: on a CPU the same several times,
            else one per device. Each batch gets one torch thread, so no thread ever waits for
            another (OpenMP waits by spinning: four times slower on a busy machine) and the bits do
            not depend on this number.
        documents: Token ids per document, without special tokens.
        eos_token_id: Read before the first token of each document.
        max_window: Maximum context in tokens; the model's own where that is smaller.
        batch_tokens: Tokens per batch, padding included.
        scored: Called after each batch with the tokens that have been scored, of those read so far.
    """
    max_window = min(max_window, replicas[0].config.max_sequence_length)
    free = SimpleQueue[Transformer]()
    for model in replicas:
        free.put(model)

    def score(batch: Sequence[Window]) -> list[float]:
        model = free.get()
        try:
            return score_batch(model, batch, eos_token_id)
        finally:
            free.put(model)

    done = read = 0
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(replicas)))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # a stop waits for no queue
        for held in _held_at_once(documents, BUFFER_BATCHES * batch_tokens):
            read += sum(map(len, held))
            cut = [
                window
                for number, ids in enumerate(held)
                for window in windows(
                    ids, prefix=eos_token_id, max_window=max_window, document=number
                )
            ]
            totals = [0.0] * len(held)
            queue = list(batches(cut, batch_tokens))
            for batch, values in zip(queue, pool.map(score, queue), strict=True):
                for window, value in zip(batch, values, strict=True):
                    totals[window.document] += value
                done += sum(window.scored for window in batch)
                scored(done, read)
            yield from zip(map(len, held), totals, strict=True)


def _held_at_once(documents: Iterable[np.ndarray], tokens: int) -> Iterator[list[np.ndarray]]:
    """Yield documents together, as many as have so many tokens, each with its EOS."""
    held: list[np.ndarray] = []
    size = 0
    for ids in documents:
        held.append(ids)
        size += len(ids) + 1
        if size >= tokens:
            yield held
            held, size = [], 0
    if held:
        yield held


@torch.no_grad()
def score_batch(model: Transformer, batch: Sequence[Window], pad: int) -> list[float]:
    """Return the summed log-probability of each window's targets; sums are in f64.

    Args:
        model: Its weights may be shards of several ranks, which must then call this together.
        batch: The longest window comes first.
        pad: The id that fills the others up, on the right, where nothing causal sees it.
    """
    length = len(batch[0].inputs)
    device = model.embeddings.weight.device
    inputs = torch.full((len(batch), length), pad, dtype=torch.long)
    targets = torch.full((len(batch), length), -1, dtype=torch.long)
    for row, window in enumerate(batch):
        stop = len(window.inputs)
        inputs[row, :stop] = torch.from_numpy(window.inputs)
        targets[row, stop - window.scored : stop] = torch.from_numpy(window.targets)
    [values] = model.loss(_values, inputs.to(device), targets.to(device))
    return values.view(len(batch), length).sum(-1).tolist()


def _values(states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor]:
    """Return the log-probability (N,) of each target in f64, 0 where there is none, -1.

    Logits are in f32, whatever states and weight are in.
    """
    scored = targets >= 0
    values = torch.zeros(targets.shape, dtype=torch.float64, device=targets.device)
    with torch.autocast(targets.device.type, enabled=False):
        values[scored] = torch.cat(
            [
                _log_probability(part.float(), weight, ids)
                for part, ids in zip(
                    states[scored].split(HEAD_ROWS), targets[scored].split(HEAD_ROWS), strict=True
                )
            ]
        )
    return (values,)


def _log_probability(states: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
    """Return the log-softmax (N,) of the chosen ids in f64, from states (N, d) and head (V, d).

    The vocabulary is taken in tiles, as the training loss does: no table of logits is ever whole.
    """
    scaled = states * math.log2(math.e)  # powers of two: `exp2` is faster here, and as exact
    picked = torch.empty_like(scaled[:, 0])
    total = torch.zeros_like(picked)
    for start, tile in _tiles(scaled, weight):
        inside = ((chosen >= start) & (chosen < start + tile.shape[1])).nonzero().squeeze(1)
        picked[inside] = tile[inside, chosen[inside] - start]
        total += tile.exp2_().sum(1)
    normaliser = total.log2()
    # Powers of a trained model's logits are far from the ends of float32, and taking the largest
    # logit off first would be two further passes. Where they are not near, it is done after all.
    far = ~((total > LEAST) & (total < MOST))
    if far.any():
        normaliser[far] = _shifted_normaliser(scaled[far], weight)
    return (picked - normaliser).double() * math.log(2)


def _shifted_normaliser(scaled: Tensor, weight: Tensor) -> Tensor:
    """Return log2 of the sum over all rows of 2 to the power of each logit (N,), of any size."""
    highest: list[Tensor] = []
    totals: list[Tensor] = []
    for _, tile in _tiles(scaled, weight):
        highest.append(tile.amax(1))
        totals.append(tile.sub_(highest[-1].unsqueeze(1)).exp2_().sum(1))
    tops = torch.stack(highest)  # (tiles, N)
    top = tops.amax(0)
    total = torch.stack(totals).mul_(tops.sub_(top).exp2_()).sum(0)
    return total.log2_().add_(top)


def _tiles(scaled: Tensor, weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row of each tile of the head, and its logits (N, width)."""
    for start, part in zip(
        range(0, len(weight), HEAD_WIDTH), weight.split(HEAD_WIDTH), strict=True
    ):
        yield start, matmul_prepacked(scaled, prepacked(part.float(), scaled))
