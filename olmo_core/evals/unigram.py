"""The unigram baseline: it knows how often each token occurs and nothing else."""

from collections.abc import Sequence

import numpy as np

from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError
from olmo_core.run.job import Job

CHUNK_TOKENS = 1 << 24


def count_tokens(manifest: Manifest, job: Job) -> np.ndarray:
    """Return how often each id occurs in the streams (vocab_size,), EOS included."""
    if manifest.vocab_size is None:
        raise InputError("the manifest names no vocab_size")
    counts = np.zeros(manifest.vocab_size, np.int64)
    files = manifest.open_files(vocab_size=manifest.vocab_size)
    done = 0
    for stream in manifest.streams:
        for part in stream.ranges:
            file = files[part.path]
            ids = np.memmap(manifest.resolve(part.path), dtype=file.dtype, mode="r")
            for start in range(part.start, part.stop, CHUNK_TOKENS):
                chunk = ids[start : min(start + CHUNK_TOKENS, part.stop)]
                counts += np.bincount(chunk, minlength=manifest.vocab_size)
                done += len(chunk)
                job.progress(done, manifest.tokens, unit="tokens", message="unigram: counting")
    return counts


def log_probabilities(counts: np.ndarray) -> np.ndarray:
    """Return the log-probability of each id with add-one smoothing: log((count + 1) / (total +
    vocab_size)).
    """
    return np.log(counts + 1.0) - np.log(float(counts.sum()) + len(counts))


def score(documents: Sequence[Sequence[int]], log_probability: np.ndarray) -> list[float]:
    """Return the log-likelihood of each document's tokens, in nats."""
    return [float(log_probability[np.asarray(ids, np.int64)].sum()) for ids in documents]
