"""The schema of evaluation rows, and their Parquet file: equal rows give equal bytes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.checkpoint.weight_files import weights_sha256
from olmo_core.config.load import load
from olmo_core.errors import InputError
from olmo_core.files import atomic_path, sha256_file
from olmo_core.run.folder import RunFolder

SCHEMA = pa.schema(
    [
        ("recipe", pa.string()),
        ("run", pa.string()),  # version of the run folder that the weights are of
        ("seed", pa.int64()),  # of that training
        ("model", pa.string()),
        ("revision", pa.string()),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("n", pa.int64()),  # documents
        ("truncated", pa.int64()),  # of these, whose prompt was cut to fit the context
        ("headline", pa.bool_()),  # a suite shows this figure of the task; null: no suite has it
        ("chance", pa.float64()),  # what a guess gets, of a headline
        ("task_version", pa.string()),
        ("num_fewshot", pa.int64()),
        ("limit", pa.int64()),
        ("limit_to", pa.string()),  # sample, first, published; null where all are scored
        ("sample_seed", pa.int64()),
        ("split", pa.string()),
        ("data_sha256", pa.string()),
        ("model_sha256", pa.string()),
        ("library", pa.string()),
    ]
)

RUN = ("recipe", "run", "seed")  # of the run that a model's weights are of
FACTS = (*RUN, "model", "revision", "step", "tokens")  # of a model


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What identifies a model in its rows."""

    model: str
    revision: str | None
    step: int | None
    tokens: int | None
    recipe: str | None = None
    run: str | None = None
    seed: int | None = None
    sha256: str | None  # of its weights file, or of the index of their shards

    def row(self, **figure: Any) -> dict[str, Any]:
        """Return one row of this model; the figure's fields are those of `SCHEMA`."""
        facts = {name: getattr(self, name) for name in FACTS}
        return {**facts, "model_sha256": self.sha256, **figure}


@dataclass(frozen=True, kw_only=True)
class EvaluatedModel(ModelFacts):
    """A model to evaluate."""

    # returns the Hugging Face folder; makes it where it is not there
    folder: Callable[[], Path] = field(compare=False)
    # what `identity` returns, where that is known
    digests: Mapping[str, str] | None = field(default=None, compare=False)

    @property
    def path(self) -> Path:
        """The Hugging Face folder."""
        return self.folder()

    def identity(self) -> dict[str, str]:
        """Return digests of what a score of this model depends on.

        Raises:
            InputError: the weights differ from those that the export recorded.
        """
        if self.digests is not None:
            return dict(self.digests)
        found = weights_sha256(self.path)
        if found != self.sha256:
            raise InputError(
                f"{self.path}: sha256 {found[:12]}… of the weights, but the export recorded "
                f"{str(self.sha256)[:12]}…; they have been changed since they were exported"
            )
        return {
            "model": found,
            "config": sha256_file(self.path / "config.json"),
            "tokenizer": sha256_file(self.path / "tokenizer.json"),
        }


def exported_models(export: Path) -> list[EvaluatedModel]:
    """Return the models of a finished `export` run folder, in its order."""
    result = RunFolder(export).read_result()
    names = ("model", "revision", "step", "tokens", "sha256")
    return [
        EvaluatedModel(
            **{name: model[name] for name in names},
            **_run_of_input(export, result.get("inputs", {}).get(model["model"])),
            folder=partial(Path, export, model["path"]),
        )
        for model in result["report"]["data"]["models"]
    ]


def run_facts(run: Path) -> dict[str, Any]:
    """Return the facts `RUN` of a run folder `<root>/<recipe>/<asset>/<version>`.

    A folder that is of no training, or is not there any more, has no seed.
    """
    config = run / "config.yaml"
    seed = load(config).get("seed") if config.is_file() else None
    return {
        "recipe": run.parent.parent.name,
        "run": run.name,
        "seed": seed if isinstance(seed, int) else None,
    }


def _run_of_input(reader: Path, recorded: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the facts of a run that a result records as its input; of none if started by hand."""
    if recorded is None:
        return {}
    # A reader's own root has its folder as <recipe>/<asset>/<version>.
    root = reader.parents[2] if recorded["root"] == "own" else Path(recorded["root"])
    return run_facts(root / recorded["path"])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write evaluation rows atomically; absent fields become null, unknown ones are an error."""
    rows = list(rows)
    unknown = sorted({name for row in rows for name in row} - set(SCHEMA.names))
    if unknown:
        raise ValueError(f"{path.name}: no column {unknown[0]!r}")
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with atomic_path(path) as beside:
        pq.write_table(table, beside)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return all rows of a file that `write_rows` wrote."""
    return pq.read_table(path, schema=SCHEMA).to_pylist()
