"""Perplexity of models on sets of texts: one row per (model, domain, metric).

Run as `python -m olmo_core.evals.perplexity.perplexity RUN_FOLDER/config.yaml`. Our own model is
loaded from the export, so that what is measured is what is released. `paloma`, beside it, has the
definition. Documents are never held all at once, and the scores of each source are kept as soon as
they are made, so that a repeated job goes on where it was stopped. Where all are known,
torch is not imported.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError
from olmo_core.evals.models import evaluated_models
from olmo_core.evals.perplexity.model_scorer import ModelScorer, Progress, Scores, eos_token_id
from olmo_core.evals.perplexity.paloma import SetFigures
from olmo_core.evals.perplexity.report import perplexity_report
from olmo_core.evals.perplexity.sets import tokenizer_path
from olmo_core.evals.perplexity.survey import Source, Survey, survey_sets
from olmo_core.evals.perplexity.unigram import UNIGRAM, Unigram
from olmo_core.evals.rows import EvaluatedModel, ModelFacts, write_rows
from olmo_core.files import atomic_path, sha256_file
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

DEFINITION_VERSION = "2"  # of `paloma`; stands in the rows
DOCUMENTS = pa.schema(
    [
        *((name, pa.string()) for name in ("model", "set", "id", "source", "domain")),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("log_likelihood", pa.float64()),  # nats
    ]
)

Scorer = Callable[[Source], Scores]


def make(config: PerplexityConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Score every exported model, those that others released, and a unigram model of stage 1."""
    return score_models(
        config,
        evaluated_models(inputs, perplexity=True),
        inputs.get("held_out"),
        job,
        mix=Manifest.read(inputs["stage1_mix"] / "manifest.json", root=inputs["tokens"]),
    )


def score_models(
    config: PerplexityConfig,
    models: Sequence[EvaluatedModel],
    held_out: Path | None,
    job: Job,
    *,
    mix: Manifest | None = None,
) -> Report:
    """Score `models`, write `rows.parquet` and `documents.parquet`, and return the report.

    Args:
        config: The section `perplexity`.
        models: What to score.
        held_out: Run folder with `paloma/<source>/val/*.jsonl.gz`; None: no set is of it.
        job: The running job.
        mix: Training tokens of the unigram baseline; None: no baseline.

    Raises:
        ConfigError: a set is not there, or of token files of another tokenizer than a model's.
        InputError: the data or the weights of a model are damaged.
    """
    identities = [model.identity() for model in models]
    _require_tokenizers(config.sets, models, identities)
    with job.timed("read"):
        surveys = survey_sets(config, held_out, job, eos_token_id=lambda: eos_token_id(models[0]))
    size = sum(source.bytes for survey in surveys for source in survey.sources)
    progress = Progress(job=job, total_bytes=len(models) * size)

    def scorers() -> Iterator[tuple[ModelFacts, Scorer]]:
        for model, identity in zip(models, identities, strict=True):
            yield model, ModelScorer(config, model, identity, progress).score
        if mix is not None:
            tokenizers = {
                identity["tokenizer"]: model.path / "tokenizer.json"
                for model, identity in zip(models, identities, strict=True)
            }
            with job.timed(UNIGRAM):
                unigram = Unigram(mix, tokenizers, job)
            yield unigram.facts, unigram.score

    rows, left_out = _write(surveys, scorers(), job)
    write_rows(job.folder / "rows.parquet", rows)
    return perplexity_report(rows, surveys, left_out, cached=progress.from_cache)


def _require_tokenizers(
    sets: Sequence[PerplexitySet],
    models: Sequence[EvaluatedModel],
    identities: Sequence[Mapping[str, str]],
) -> None:
    for each in (each for each in sets if each.kind == "tokens"):
        made_by = sha256_file(tokenizer_path(each))
        for model, identity in zip(models, identities, strict=True):
            if identity["tokenizer"] != made_by:
                raise ConfigError(
                    f"perplexity: sets: {each.name}: its token files are of tokenizer "
                    f"{made_by[:12]}…, but {model.model} reads those of "
                    f"{identity['tokenizer'][:12]}… ({model.path / 'tokenizer.json'}); expected "
                    "the same tokenizer.json"
                )


def _write(
    surveys: Sequence[Survey],
    scorers: Iterable[tuple[ModelFacts, Scorer]],
    job: Job,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Write `documents.parquet`; return the rows, and the domains that a metric leaves out."""
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    with (
        atomic_path(job.folder / "documents.parquet") as beside,
        pq.ParquetWriter(beside, DOCUMENTS) as writer,
    ):
        for model, score in scorers:
            for survey in surveys:
                figures = SetFigures(name=survey.config.name)
                names = {"model": model.model, "set": survey.config.name}
                for source in survey.sources:
                    with job.timed(model.model):
                        scores = score(source)
                    for documents in _add(source, scores, figures):
                        rows_of = [{**names, **document} for document in documents]
                        writer.write_table(pa.Table.from_pylist(rows_of, DOCUMENTS))
                facts = _facts(survey)
                rows += [model.row(**facts, **figure) for figure in figures.rows()]
                left_out += [{"model": model.model, **vars(each)} for each in figures.left_out()]
    return rows, left_out


def _add(source: Source, scores: Scores, figures: SetFigures) -> Iterator[list[dict[str, Any]]]:
    """Add a source's documents to the figures; yield what is written of them, some at a time."""
    tokens, values = scores
    start = 0
    for batch in source.read_facts():
        stop = start + len(batch)
        documents: list[dict[str, Any]] = []
        for row, count, value in zip(
            batch.to_pylist(), tokens[start:stop], values[start:stop], strict=True
        ):
            units = {"token": count, **{unit: row[unit] for unit in ("word", "char", "byte")}}
            figures.add(source.name, row["domain"], units, value)
            documents.append(
                {
                    "id": row["id"],
                    "source": source.name,
                    "domain": row["domain"],
                    "tokens": count,
                    "bytes": row["byte"],
                    "log_likelihood": value,
                }
            )
        yield documents
        start = stop


def _facts(survey: Survey) -> dict[str, Any]:
    """Return the fields of a row that describe the set."""
    has_splits = survey.config.kind in ("held_out", "paloma")
    return {
        "task_version": DEFINITION_VERSION,
        "num_fewshot": 0,
        "limit": survey.limit,
        "split": survey.config.split if has_splits else None,
        "data_sha256": survey.sha256,
        "library": f"torch {version('torch')}",
    }


if __name__ == "__main__":
    run_job(PerplexityConfig, make)
