"""What a job has to do, as one amount: its time, disk and outputs go by it.

A job's load follows from its configuration and from what its inputs report, whether they have been
made or are forecast themselves; so it is the same question of a finished run and of one to come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.load import build
from olmo_core.evals.suites import resolved

Numbers = Mapping[str, Any]

DOCUMENTS_OF_A_TASK = 1000  # assumed where no limit is given
TEXT = "bytes of text"
RELEASED_BYTES = 2  # per parameter of others' models, which are mostly released in bfloat16

# Modules of jobs that read and write weights, and of those that score texts with them.
EXPORT, DOWNSTREAM = "olmo_core.release.export", "olmo_core.evals.downstream"
OF_WEIGHTS = ("olmo_core.checkpoint.soup", "olmo_core.soups.soup", EXPORT)
PERPLEXITY = "olmo_core.evals.perplexity.perplexity"
OF_SCORES = (DOWNSTREAM, PERPLEXITY, "olmo_core.soups.interpolation")
# Of a sweep: the module, and the one whose work it does on a checkpoint, by asset.
CHECKPOINT = "olmo_core.evals.checkpoint"
OF_CHECKPOINTS = {"checkpoint_downstream": DOWNSTREAM, "checkpoint_perplexity": PERPLEXITY}
EVALUATION_OF = {"checkpoint_downstream": "downstream", "checkpoint_perplexity": "perplexity"}


def work_module(asset: str, module: str) -> str:
    """Return the module whose work a job does: of a checkpoint's evaluation that of models'."""
    return OF_CHECKPOINTS[asset] if module == CHECKPOINT else module


@dataclass(frozen=True, kw_only=True)
class Work:
    """One job as a forecast sees it."""

    asset: str
    module: str  # as `work_module` has it
    config: Mapping[str, Any]  # identity-bearing
    # What each input reports, as far as it is known. `raw` has none, and stands in here itself:
    # how much text its sources hold.
    inputs: Mapping[str, Numbers]
    from_cache: bool = False  # an evaluation that will find its scores there
    # An evaluation of a checkpoint that begins its process; others follow in it, where they do.
    first_in_process: bool = True


@dataclass(frozen=True, kw_only=True)
class Load:
    """An amount of work and its unit; only loads of one unit can be compared."""

    amount: float
    unit: str

    def __str__(self) -> str:
        if self.unit == TEXT:
            return text_size(self.amount)
        return f"{self.amount:,.4g} {self.unit}"


def text_size(size: float) -> str:
    """Return so many bytes of text in words."""
    unit, factor = next(
        (unit, factor)
        for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
        if size >= factor or unit == "kB"
    )
    return f"{size / factor:.4g} {unit} of text"


def load_of(work: Work) -> Load | None:
    """Return a job's load; None where it depends on nothing, or on what is not known."""
    return _LOADS[work.module](work) if work.module in _LOADS else None


def number_of(work: Work, name: str, key: str) -> float | None:
    """Return what an input reports under a key; None where that is not known."""
    found = work.inputs.get(name, {}).get(key)
    return None if found is None else float(found)


def model_parameters(work: Work) -> float | None:
    """Return the parameters of all models that a job reads; None where they are not known."""
    if "export" in work.inputs:
        of_one, models = (number_of(work, "export", key) for key in ("parameters", "models"))
        others = number_of(work, "models", "bytes") if "models" in work.inputs else 0.0
        if of_one is None or models is None or others is None:
            return None
        return of_one * models + others / RELEASED_BYTES
    return sum(float(each["parameters"]) for each in work.inputs.values() if "parameters" in each)


def documents(work: Work) -> float:
    """Return how many documents `downstream` scores with each model."""
    known = {each.name for each in fields(DownstreamConfig)}
    section = {key: value for key, value in work.config.items() if key in known}
    tasks = resolved(build(DownstreamConfig, section)).tasks
    return float(sum(task.limit or DOCUMENTS_OF_A_TASK for task in tasks))


def _of(name: str, key: str, unit: str = TEXT) -> Callable[[Work], Load | None]:
    def load(work: Work) -> Load | None:
        amount = number_of(work, name, key)
        return None if amount is None else Load(amount=amount, unit=unit)

    return load


def _learnt(work: Work) -> Load | None:
    """Return the text that a tokenizer may be trained on; a released one is copied."""
    return None if work.config.get("file") else _of("filtered", "kept_bytes")(work)


def _parameters(work: Work) -> Load | None:
    found = model_parameters(work)
    return Load(amount=found, unit="parameters") if found else None


def _scored_documents(work: Work) -> Load | None:
    found = model_parameters(work)
    return Load(amount=found * documents(work), unit="parameters × documents") if found else None


def _scored_text(work: Work) -> Load | None:
    """Return the load by the text of each source where that is limited, else by all that is held
    out.
    """
    found, limit = model_parameters(work), work.config.get("bytes_per_source")
    text = number_of(work, "held_out", "scored_bytes") if limit is None else float(limit)
    if not found or text is None:
        return None
    whose = "bytes of held-out text" if limit is None else "bytes of each source"
    return Load(amount=found * text, unit=f"parameters × {whose}")


def _interpolated(work: Work) -> Load | None:
    found, text = model_parameters(work), number_of(work, "held_out", "scored_bytes")
    if not found or text is None:
        return None
    points = float(work.config["points"])
    return Load(amount=found * text * points, unit="parameters × bytes of held-out text × points")


_LOADS: Mapping[str, Callable[[Work], Load | None]] = {
    "olmo_core.corpus.intake.raw": _of("raw", "text_bytes"),
    "olmo_core.corpus.duplicates.near_duplicates": _of("raw", "text_bytes"),
    "olmo_core.corpus.duplicates.held_out": _of("raw", "text_bytes"),
    "olmo_core.corpus.filters.tagged": _of("held_out", "remaining_bytes"),
    "olmo_core.corpus.duplicates.deduplicated": _of("held_out", "remaining_bytes"),
    "olmo_core.corpus.duplicates.decontaminated": _of("held_out", "remaining_bytes"),
    "olmo_core.corpus.filters.filtered": _of("held_out", "remaining_bytes"),
    "olmo_core.corpus.tokens.tokenizer": _learnt,
    "olmo_core.corpus.tokens.tokens": _of("filtered", "kept_bytes"),
    "olmo_core.corpus.index.documents": _of("filtered", "kept_bytes"),
    "olmo_core.corpus.tokens.mix": _of("tokens", "tokens", "tokens"),
    "olmo_core.checkpoint.soup": _parameters,
    "olmo_core.soups.soup": _parameters,
    "olmo_core.soups.interpolation": _interpolated,
    EXPORT: _parameters,
    DOWNSTREAM: _scored_documents,
    PERPLEXITY: _scored_text,
}
