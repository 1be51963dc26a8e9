"""The evaluators of a run: found before its first step, and asked again and again while it trains.

A perplexity set is scored in Paloma's definition, a downstream label by lm-eval's task of its name,
both by the code that scores checkpoints and releases.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer

from olmo_core.config.evals import TaskConfig
from olmo_core.config.evaluators import EvaluatorConfig
from olmo_core.config.load import to_dict
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.train import TrainConfig
from olmo_core.data.files import Files
from olmo_core.data.format import TokenFile, little_endian, open_token_file
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.in_loop.labels import TASK, figure, labels, nearest_label
from olmo_core.evals.in_loop.ranks import Abandoned, RankedModel, undisturbed
from olmo_core.evals.in_loop.tokenizer import find_tokenizer
from olmo_core.evals.perplexity.documents import token_documents
from olmo_core.evals.perplexity.windows import windows
from olmo_core.evals.task_sources import task_source
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.prepare import is_sharded
from olmo_core.parallel.world import World

Figures = dict[str, float]
Evaluate = Callable[[RankedModel], Figures]


class Evaluators:
    """All evaluators of a run, ready to be asked.

    Args:
        config: The run.
        world: Its ranks, all of which build and ask this together.

    Raises:
        ConfigError: one cannot be had; names each, why, and what would be right. With
            `core.evaluators: skip_missing` they are in `missing` instead.
    """

    def __init__(self, config: TrainConfig, world: World) -> None:
        self._config, self._world = config, world
        self._files = Files(config.core.cache)
        self._asked: dict[str, Evaluate] = {}
        self.missing: dict[str, str] = {}  # label -> why
        self.asked: dict[str, str] = {}  # label -> digest of what it is asked: figures compare
        self.documents: dict[str, int] = {}  # figure -> documents, of the evaluation before
        for each in config.evaluators:
            problem: str | None = None
            try:
                self._asked[each.label] = self._prepare(each)
            except (ConfigError, InputError) as error:
                problem = str(error)
            told = [str(said) for said in world.gather(problem) if said is not None]
            if told:  # on any rank: they evaluate together
                self._asked.pop(each.label, None)
                self.missing[each.label] = told[0]
        if self.missing and config.core.evaluators != "skip_missing":
            said = "; ".join(f"{label}: {why}" for label, why in self.missing.items())
            raise ConfigError(
                f"evaluators: {said}. Or train without them: core.evaluators=skip_missing"
            )

    @property
    def labels(self) -> list[str]:
        """Return the labels that are evaluated."""
        return [*self._asked]

    def evaluate(
        self,
        model: Transformer,
        *,
        stop_requests: Callable[[], int],
        begins: Callable[[str], None],
    ) -> Iterator[tuple[str, Figures | str]]:
        """Yield each label and its figures, or why they could not be made; on all ranks.

        Args:
            model: As training holds it; weights, mode and random numbers stay as they are.
            stop_requests: How often this rank was asked to stop.
            begins: Called with each label before it is evaluated.

        Raises:
            Abandoned: a rank is asked to stop.
        """
        ranked = RankedModel(
            model=model,
            world=self._world,
            narrow=gathers_narrow(self._config, self._world),
            stop_requests=stop_requests,
        )
        for label, evaluate in self._asked.items():
            begins(label)
            try:
                with undisturbed(model, self._world.device):
                    figures: Figures | str = _finite(evaluate(ranked))
            except Abandoned:
                raise
            except Exception as error:  # whatever an evaluation does, training goes on
                figures = f"{type(error).__name__}: {error}"
            yield label, figures

    def _prepare(self, each: EvaluatorConfig) -> Evaluate:
        config = self._config
        size = each.device_eval_batch_size or config.device_eval_batch_size
        subset = each.subset_num_batches
        if subset is None:
            subset = config.eval_subset_num_batches
        instances = None if subset < 1 else subset * size
        question = {"label": each.label, "instances": instances, "tokens": config.sequence_length}
        self.asked[each.label] = _digest({**question, "data": to_dict(each.data)})
        batch_tokens = size * config.sequence_length
        if each.type == "lm":
            files = self._open(each)
            most = None if instances is None else instances * config.sequence_length
            return functools.partial(
                self._perplexities, files, most_tokens=most, batch_tokens=batch_tokens
            )
        if each.label not in labels():
            raise ConfigError(f"no such label; {nearest_label(each.label)}")
        task = TaskConfig(
            name=f"{TASK}{each.label}", limit=instances, limit_to="first", num_fewshot=0
        )
        return self._downstream(each.label, task, batch_tokens)

    def _downstream(self, label: str, task: TaskConfig, batch_tokens: int) -> Evaluate:
        try:
            from olmo_core.evals.harness import Harness  # lm-eval takes seconds
            from olmo_core.evals.in_loop.language_model import TrainedLanguageModel
        except ModuleNotFoundError as error:  # an image for training alone
            raise ConfigError(
                f"it needs the package {error.name}, which is not installed"
            ) from None
        tokenizer = self._tokenizer
        with TemporaryDirectory() as folder:
            shadow = {"include": str(task_source(task).path), "task": task.name}
            (Path(folder) / "task.yaml").write_text(yaml.safe_dump(shadow), encoding="utf-8")
            harness = Harness(Path(folder))
            harness.load(task)

        def evaluate(ranked: RankedModel) -> Figures:
            model = TrainedLanguageModel(ranked, tokenizer, batch_tokens)
            rows = harness.score(model, task)["rows"]
            [row] = [row for row in rows if row["metric"] == labels()[label].metric]
            self.documents[figure(label)] = row["n"]
            return {figure(label): row["value"]}

        return evaluate

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        path, model = find_tokenizer(self._config), self._config.model
        tokenizer = read_tokenizer(path)
        entries = tokenizer.get_vocab_size(with_added_tokens=True)
        if entries > model.padded_vocab_size:
            raise ConfigError(
                f"{path} has {entries} entries, the model {model.padded_vocab_size}; expected the "
                "tokenizer.json that made the run's tokens"
            )
        return tokenizer

    def _open(self, each: EvaluatorConfig) -> dict[str, list[TokenFile]]:
        model = self._config.model
        dtype = little_endian(each.data.memmap_dtype)
        opened: dict[str, list[TokenFile]] = {}
        for name, paths in each.data.sets(each.label).items():
            for path in paths:
                file = open_token_file(
                    path, files=self._files, dtype=dtype, vocab_size=model.vocab_size
                )
                opened.setdefault(name, []).append(file)
        return opened

    def _perplexities(
        self,
        sets: Mapping[str, Sequence[TokenFile]],
        ranked: RankedModel,
        *,
        most_tokens: int | None,
        batch_tokens: int,
    ) -> Figures:
        found: Figures = {}
        for name, files in sets.items():
            documents = [*_limited(self._documents(files), most_tokens)]
            loss = mean_loss(ranked, documents, batch_tokens=batch_tokens)
            figures = {"CrossEntropyLoss": loss, "Perplexity": math.exp(min(loss, 700.0))}
            for metric, value in figures.items():
                found[f"eval/{name}/{metric}"] = value
                self.documents[f"eval/{name}/{metric}"] = len(documents)
        return found

    def _documents(self, files: Sequence[TokenFile]) -> Iterator[np.ndarray]:
        model = self._config.model
        for file in files:
            eos = model.eos_token_id if file.header is None else file.header.eos_token_id
            yield from token_documents(file, eos, model.vocab_size, self._files)


def _digest(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def gathers_narrow(config: TrainConfig, world: World) -> bool:
    """Return whether the weights of a run are there in bfloat16 alone when it computes."""
    mixed = config.precision == "amp_bf16" and config.fsdp.precision is not None
    return mixed and is_sharded(config, world)


def mean_loss(ranked: RankedModel, documents: Iterable[np.ndarray], *, batch_tokens: int) -> float:
    """Return nats per token over documents, each token scored once, after EOS and what precedes.

    Raises:
        InputError: there is no token.
    """
    model = ranked.model.config
    cut = [
        window
        for ids in documents
        for window in windows(
            ids,
            prefix=model.eos_token_id,
            max_window=min(PerplexityConfig().max_window, model.max_sequence_length),
        )
    ]
    tokens = sum(window.scored for window in cut)
    if not tokens:
        raise InputError("no token in its files; expected documents")
    return -math.fsum(ranked.score(cut, batch_tokens)) / tokens


def _limited(documents: Iterator[np.ndarray], most_tokens: int | None) -> Iterator[np.ndarray]:
    """Yield documents until they have so many tokens, the last one whole; None: all."""
    taken = 0
    for ids in documents:
        if most_tokens is not None and taken >= most_tokens:
            return
        yield ids
        taken += len(ids)


def _finite(figures: Figures) -> Figures:
    for name, value in figures.items():
        if math.isnan(value):
            raise InputError(f"{name} is {value}; expected a number")
    return figures
