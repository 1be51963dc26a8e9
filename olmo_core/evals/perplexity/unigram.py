"""A baseline of perplexities: a model that knows how often each token occurs in training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from olmo_core.data.manifest import Manifest
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.evals.perplexity.documents import token_ids
from olmo_core.evals.perplexity.survey import Source
from olmo_core.evals.rows import ModelFacts
from olmo_core.run.job import Job

UNIGRAM = "unigram"
CHUNK_TOKENS = 1 << 24  # counted at once


class Unigram:
    """Frequencies of the tokens of a mix's streams, EOS included, with add-one smoothing.

    Args:
        manifest: The mix.
        tokenizers: Digest -> file of the tokenizers of the models.
        job: Where progress is reported.

    Raises:
        InputError: the mix is of another tokenizer, or its manifest names no vocabulary.
    """

    def __init__(self, manifest: Manifest, tokenizers: Mapping[str, Path], job: Job) -> None:
        path = tokenizers.get(manifest.tokenizer_sha256 or "")
        if path is None:
            raise InputError("stage1_mix: its tokens are of another tokenizer than the models'")
        if manifest.vocab_size is None:
            raise InputError("the manifest names no vocab_size")
        self._tokenizer = read_tokenizer(path)
        counts = np.zeros(manifest.vocab_size, np.int64)
        files = manifest.open_files(vocab_size=manifest.vocab_size)
        for part in (part for stream in manifest.streams for part in stream.ranges):
            file = np.memmap(manifest.resolve(part.path), dtype=files[part.path].dtype, mode="r")
            for start in range(part.start, part.stop, CHUNK_TOKENS):
                chunk = file[start : min(start + CHUNK_TOKENS, part.stop)]
                counts += np.bincount(chunk, minlength=manifest.vocab_size)
                done = int(counts.sum())
                job.progress(done, manifest.tokens, unit="tokens", message="unigram: counting")
        total = int(counts.sum())
        self._log_probability = np.log(counts + 1.0) - np.log(float(total) + len(counts))
        self.facts = ModelFacts(model=UNIGRAM, revision=None, step=None, tokens=total, sha256=None)

    def score(self, source: Source) -> tuple[list[int], list[float]]:
        """Return the number of tokens and the log-likelihood (nats) of each document."""
        tokens: list[int] = []
        values: list[float] = []
        for ids in token_ids(source.read(), self._tokenizer):
            tokens.append(len(ids))
            values.append(float(self._log_probability[ids].sum()))
        return tokens, values
