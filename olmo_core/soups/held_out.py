"""The loss of averages of models on a recipe's held-out documents; no average is ever written.

It is the figure `loss` of the asset `perplexity` on the same set, measured by the same code.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from olmo_core.checkpoint.huggingface import device_for_evaluation
from olmo_core.checkpoint.soup import average, require_equal_tensors
from olmo_core.checkpoint.state import assemble
from olmo_core.checkpoint.tensor_file import NUMPY, Stored, TensorFile
from olmo_core.checkpoint.weights import CONFIG, WEIGHTS, read_model
from olmo_core.config.load import load
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.evals.cache import cached_scores
from olmo_core.evals.perplexity.documents import token_ids
from olmo_core.evals.perplexity.scoring import score_documents
from olmo_core.evals.perplexity.survey import Source, survey_sets
from olmo_core.files import sha256_file
from olmo_core.model.transformer import Transformer
from olmo_core.run.code import code_digest
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job


class HeldOutLoss:
    """Measures weighted means of models, a tensor of which is averaged when it is loaded.

    Args:
        config: The section `perplexity`, of the held-out set alone.
        models: Folders with `model/`, by the models' names.
        held_out: Run folder of the held-out documents.
        tokenizer: Run folder of the tokenizer.
        measurements: How many are going to be asked for, for the progress.
        job: The running job; measurements are kept in its cache.

    Raises:
        InputError: the models' tensors differ in more than their values, or data are damaged.
    """

    def __init__(
        self,
        config: PerplexityConfig,
        models: Mapping[str, Path],
        *,
        held_out: Path,
        tokenizer: Path,
        measurements: int,
        job: Job,
    ) -> None:
        self._config, self._job, self._total = config, job, measurements
        self._done = 0
        self._folders = {name: folder / "model" for name, folder in models.items()}
        self._files = {name: TensorFile(at / WEIGHTS) for name, at in self._folders.items()}
        require_equal_tensors(self._files)
        self._tokenizer = read_tokenizer(tokenizer / "tokenizer.json")
        self._eos: int = RunFolder(tokenizer).read_result()["report"]["data"]["eos_token_id"]
        with job.timed("read"):
            [self._survey] = survey_sets(config, held_out, job, eos_token_id=lambda: self._eos)
        self._sha256 = {
            name: {file: sha256_file(at / file) for file in (WEIGHTS, CONFIG)}
            for name, at in self._folders.items()
        }
        self._key = {
            "kind": "soup",
            "code": code_digest(__name__),
            "max_window": config.max_window,
            "batch_tokens": config.batch_tokens,
            "versions": {name: version(name) for name in ("torch", "tokenizers", "numpy")},
            "device": device_for_evaluation().type,
            "tokenizer": sha256_file(tokenizer / "tokenizer.json"),
            "eos_token_id": self._eos,
        }

    @property
    def documents(self) -> Mapping[str, Any]:
        """What the loss is of: how many documents and bytes, and their digest."""
        return self._survey.row()

    def measure(self, weights: Mapping[str, float], said: str) -> float:
        """Return the loss, in nats per token, of the sum of models by these weights.

        Args:
            weights: A share per model, in the order in which they are summed.
            said: What is measured, for the progress.

        Raises:
            InputError: a log-likelihood is no finite number: the model has diverged.
        """
        used = {name: share for name, share in weights.items() if share}
        mixed = [[self._sha256[name], share] for name, share in used.items()]
        sources = [source for source in self._survey.sources if source.documents]
        keys = [{**self._key, "models": mixed, "data": source.sha256} for source in sources]

        def score(missing: Sequence[int]) -> Iterator[dict[str, float]]:
            if missing:
                with self._job.timed("load"):
                    replicas = self._replicas(used)
                for number in missing:
                    with self._job.timed("score"):
                        yield self._score(replicas, sources[number], said)

        values, _ = cached_scores(self._job.cache / "evals", keys, score)
        self._done += 1
        self._job.progress(self._done, self._total, unit="measurements", message=said)
        tokens = sum(value["tokens"] for value in values)
        return -math.fsum(value["log_likelihood"] for value in values) / tokens

    def _score(self, replicas: list[Transformer], source: Source, said: str) -> dict[str, float]:
        message = f"{said}: {source.name}"

        def report(done: int, read: int) -> None:
            self._job.progress(self._done, self._total, unit="measurements", message=message)

        scored = score_documents(
            replicas,
            token_ids(source.read(), self._tokenizer),
            eos_token_id=self._eos,
            max_window=self._config.max_window,
            batch_tokens=self._config.batch_tokens,
            scored=report,
        )
        counts, values = zip(*scored, strict=True)
        total = math.fsum(values)
        if not math.isfinite(total):
            raise InputError(
                f"{said}: log-likelihood {total} of {source.name}; expected a finite number; the "
                "model has diverged"
            )
        return {"tokens": sum(counts), "log_likelihood": total}

    def _replicas(self, weights: Mapping[str, float]) -> list[Transformer]:
        """Return the mean once per batch that is computed at a time, as perplexity does."""
        name = next(iter(weights))
        config = read_model(load(self._folders[name] / CONFIG), str(self._folders[name] / CONFIG))
        stored = {
            tensor: Stored(spec.shape, partial(self._average, weights, tensor))
            for tensor, spec in self._files[name].tensors.items()
        }
        torch.set_num_threads(1)
        path = self._folders[name] / WEIGHTS
        if device_for_evaluation().type == "cpu":
            return [assemble(config, stored, path, torch.device("cpu"))] * self._job.processes
        gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
        return [assemble(config, stored, path, gpu) for gpu in gpus]

    def _average(self, weights: Mapping[str, float], tensor: str) -> torch.Tensor:
        """Return one tensor as a soup of these weights would have it in its file."""
        files = [self._files[name] for name in weights]
        mean = average(files, tensor, list(weights.values()))
        return torch.from_numpy(mean.astype(NUMPY[files[0].tensors[tensor].dtype]))
