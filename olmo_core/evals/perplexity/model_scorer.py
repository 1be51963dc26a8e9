"""Scores of a model on the sources of perplexity sets, kept as they are made."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.evals.cache import cached_scores
from olmo_core.evals.held import Held
from olmo_core.evals.libraries import device_type, version
from olmo_core.evals.perplexity.documents import token_ids
from olmo_core.evals.perplexity.survey import Source
from olmo_core.evals.rows import EvaluatedModel
from olmo_core.files import read_json
from olmo_core.run.code import code_digest
from olmo_core.run.job import Job

if TYPE_CHECKING:
    from olmo_core.model.transformer import Transformer

# What decides a document's log-likelihood: scores by other code are not taken from the cache.
SCORED_BY = ("olmo_core.evals.perplexity.documents", "olmo_core.evals.perplexity.scoring")

Scores = tuple[list[int], list[float]]  # of each document: its tokens, its nats

_tokenizer = Held[Tokenizer]()


@dataclass(kw_only=True)
class Progress:
    """How much of the texts has been scored by all models, or found in the cache."""

    job: Job
    total_bytes: int
    done_bytes: int = 0
    from_cache: int = 0  # sources, of each model

    def report(self, message: str, further_bytes: float = 0.0) -> None:
        """Report what is done, and so many bytes of the source at hand; heed a stop."""
        done = round(self.done_bytes + further_bytes)
        self.job.progress(done, self.total_bytes, unit="bytes", message=message)


class ModelScorer:
    """A model, loaded when the first of its scores is not in the cache.

    Args:
        config: The section `perplexity`.
        model: The exported model.
        identity: What `model.identity()` says.
        progress: What is reported, and to which job; the cache is the job's.
    """

    def __init__(
        self,
        config: PerplexityConfig,
        model: EvaluatedModel,
        identity: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self._config, self._model, self._progress = config, model, progress
        self._tokenizer_sha256 = identity["tokenizer"]
        self._key = {
            "kind": "perplexity",
            "code": code_digest(*SCORED_BY),
            "max_window": config.max_window,
            "batch_tokens": config.batch_tokens,
            "versions": {name: version(name) for name in ("torch", "tokenizers")},
            "device": device_type(),
            **identity,
        }

    def score(self, source: Source) -> Scores:
        """Return each document's tokens and log-likelihood, from the cache where it has them.

        Raises:
            InputError: a log-likelihood is no finite number: the model has diverged.
        """
        [value], cached = cached_scores(
            self._progress.job.cache / "evals",
            [{**self._key, "data": source.sha256}],
            lambda missing: (self._score(source) for _ in missing),
        )
        self._progress.from_cache += cached
        self._progress.done_bytes += source.bytes
        return value["tokens"], value["log_likelihoods"]

    @functools.cached_property
    def _replicas(self) -> list["Transformer"]:
        from olmo_core.evals.perplexity.scoring import load_replicas  # torch takes seconds

        self._progress.report(f"{self._model.model}: loading")
        return load_replicas(self._model.path, self._progress.job.processes)

    def _score(self, source: Source) -> dict[str, list[Any]]:
        from olmo_core.evals.perplexity.scoring import score_documents

        tokenizer = _tokenizer.get(
            self._tokenizer_sha256, lambda: read_tokenizer(self._model.path / "tokenizer.json")
        )
        read_bytes = 0

        def documents() -> Iterator[np.ndarray]:
            nonlocal read_bytes
            sizes = (size for batch in source.read_facts() for size in batch["byte"].to_pylist())
            for ids, size in zip(token_ids(source.read(), tokenizer), sizes, strict=True):
                read_bytes += size
                yield ids

        def report(done: int, read: int) -> None:
            further = read_bytes * done / read
            self._progress.report(f"{self._model.model}: {source.name}", further)

        scored = score_documents(
            self._replicas,
            documents(),
            eos_token_id=eos_token_id(self._model),
            max_window=self._config.max_window,
            batch_tokens=self._config.batch_tokens,
            scored=report,
        )
        tokens: list[int] = []
        values: list[float] = []
        for count, value in scored:
            if not math.isfinite(value):
                raise InputError(
                    f"{self._model.model}: log-likelihood {value} of document {len(values) + 1} of "
                    f"{source.name}; expected a finite number; the model has diverged"
                )
            tokens.append(count)
            values.append(value)
        return {"tokens": tokens, "log_likelihoods": values}


def eos_token_id(model: EvaluatedModel) -> int:
    """Return the id of EOS of an exported model."""
    return read_json(model.path / "config.json")["eos_token_id"]
