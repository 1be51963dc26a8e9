"""What a job to come will report that the load of later jobs depends on."""

from collections.abc import Callable, Mapping, Sequence

from olmo_core.forecast.like import Like
from olmo_core.forecast.loads import Work, number_of

BYTES_OF_A_TOKEN = 4.0  # of Dolma: 12 TB of text, three trillion tokens (docs/corpus.md)

# Amounts that go by a job's load: of a like run they are taken in proportion.
_IN_PROPORTION: Mapping[str, tuple[str, ...]] = {
    "olmo_core.corpus.duplicates.held_out": ("remaining_bytes", "scored_bytes"),
    "olmo_core.corpus.filters.filtered": ("kept_bytes",),
    "olmo_core.corpus.tokens.tokens": ("tokens",),
    "olmo_core.corpus.tokens.mix": ("tokens",),
}


def outputs(work: Work, likes: Sequence[Like]) -> dict[str, float]:
    """Return the numbers by name; without those that are not known.

    Args:
        work: The job.
        likes: Finished runs most like it, if any.
    """
    if work.module in _IN_PROPORTION and likes:
        run, ratio = likes[0].run, likes[0].ratio
        keys = [key for key in _IN_PROPORTION[work.module] if key in run.numbers]
        return {key: float(run.numbers[key]) * ratio for key in keys}
    found = _OUTPUTS[work.module](work) if work.module in _OUTPUTS else {}
    return {key: value for key, value in found.items() if value is not None}


def _raw(work: Work) -> Mapping[str, float | None]:
    return {"text_bytes": number_of(work, "raw", "text_bytes")}


def _held_out(work: Work) -> Mapping[str, float | None]:
    """Assume that the share is taken out as it is asked for, and nothing else."""
    text, share = number_of(work, "raw", "text_bytes"), float(work.config.get("share", 0))
    return {} if text is None else {"remaining_bytes": text, "scored_bytes": text * share}


def _filtered(work: Work) -> Mapping[str, float | None]:
    """Assume that all is kept."""
    return {"kept_bytes": number_of(work, "held_out", "remaining_bytes")}


def _tokenizer(work: Work) -> Mapping[str, float | None]:
    return {"vocab_size": float(work.config["vocab_size"])}


def _tokens(work: Work) -> Mapping[str, float | None]:
    text = number_of(work, "filtered", "kept_bytes")
    return {} if text is None else {"tokens": text / BYTES_OF_A_TOKEN}


def _mix(work: Work) -> Mapping[str, float | None]:
    """Assume that a mix takes everything, or as much as it may."""
    tokens, most = number_of(work, "tokens", "tokens"), work.config.get("max_tokens")
    return {"tokens": tokens if most is None else min(float(most), tokens or float(most))}


def _soup(work: Work) -> Mapping[str, float | None]:
    return {"parameters": _largest(work)}


def _export(work: Work) -> Mapping[str, float | None]:
    models = sum("parameters" in each for each in work.inputs.values())
    return {"parameters": _largest(work), "models": float(models)}


def _largest(work: Work) -> float | None:
    known = [float(each["parameters"]) for each in work.inputs.values() if "parameters" in each]
    return max(known, default=None)


_OUTPUTS: Mapping[str, Callable[[Work], Mapping[str, float | None]]] = {
    "olmo_core.corpus.intake.raw": _raw,
    "olmo_core.corpus.duplicates.held_out": _held_out,
    "olmo_core.corpus.filters.filtered": _filtered,
    "olmo_core.corpus.tokens.tokenizer": _tokenizer,
    "olmo_core.corpus.tokens.tokens": _tokens,
    "olmo_core.corpus.tokens.mix": _mix,
    "olmo_core.checkpoint.soup": _soup,
    "olmo_core.soups.soup": _soup,
    "olmo_core.release.export": _export,
}
