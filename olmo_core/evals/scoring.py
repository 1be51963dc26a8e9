"""Log-likelihood of documents under our model, with windows of similar length in one batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import torch
from torch import Tensor

from olmo_core.evals.paloma import Window, batches, windows
from olmo_core.model.transformer import Transformer
from olmo_core.run.job import Job

HEAD_ROWS = 256  # positions whose logits are in memory at once: a few MB, near the processor


def score_documents(
    model: Transformer,
    documents: Sequence[Sequence[int]],
    *,
    eos_token_id: int,
    max_window: int,
    batch_tokens: int,
    threads: int = 1,
    job: Job | None = None,
    message: str = "",
) -> list[float]:
    """Return the log-likelihood of each document in nats.

    Args:
        model: Our model, on its device.
        documents: Token ids per document, without special tokens.
        eos_token_id: Read before the first token of each document.
        max_window: Maximum context in tokens.
        batch_tokens: Tokens per batch, padding included.
        threads: Number of batches computed at once. Each gets one torch thread, so no thread ever
            waits for another (OpenMP waits by spinning: four times slower on a busy machine) and
            the bits do not depend on this number.
        job: Where progress is reported.
        message: Text of the progress report.
    """
    cut = [
        window
        for number, ids in enumerate(documents)
        for window in windows(ids, prefix=eos_token_id, max_window=max_window, document=number)
    ]
    totals = [0.0] * len(documents)
    done, total = 0, sum(window.scored for window in cut)
    queue = list(batches(cut, batch_tokens))
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(1, threads)))
        scored = pool.map(lambda batch: _score_batch(model, batch, eos_token_id), queue)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # a stop waits for no queue
        for batch, values in zip(queue, scored, strict=True):
            for window, value in zip(batch, values, strict=True):
                totals[window.document] += value
            done += sum(window.scored for window in batch)
            if job is not None:
                job.progress(done, total, unit="tokens", message=message)
    return totals


@torch.inference_mode()
def _score_batch(model: Transformer, batch: Sequence[Window], pad: int) -> list[float]:
    """Return the summed log-probability of each window's targets; sums are in f64."""
    length = len(batch[0].inputs)  # the longest comes first
    device = model.embeddings.weight.device
    inputs = torch.full((len(batch), length), pad, dtype=torch.long)
    targets = torch.full((len(batch), length), -1, dtype=torch.long)
    for row, window in enumerate(batch):
        stop = len(window.inputs)  # padding on the right: nothing causal sees it
        inputs[row, :stop] = torch.from_numpy(window.inputs)
        targets[row, stop - window.scored : stop] = torch.from_numpy(window.targets)
    targets = targets.to(device)
    scored = targets >= 0  # (B, T)
    states, chosen = model.hidden(inputs.to(device))[scored], targets[scored]  # (N, d), (N,)
    values = torch.zeros(scored.shape, dtype=torch.float64, device=device)
    values[scored] = torch.cat(
        [
            _log_probability(model.lm_head(part).float(), ids)
            for part, ids in zip(states.split(HEAD_ROWS), chosen.split(HEAD_ROWS), strict=True)
        ]
    )
    return values.sum(-1).tolist()


def _log_probability(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the log-softmax (N,) of the chosen ids in f64; overwrites `logits` (N, V)."""
    values = logits.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    largest = logits.amax(-1)
    # In place: a second table of logits costs as much time as the exponentials.
    normaliser = logits.sub_(largest.unsqueeze(-1)).exp_().sum(-1).log_().add_(largest)
    return (values - normaliser).double()
