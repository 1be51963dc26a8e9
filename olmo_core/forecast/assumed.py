"""What a job takes of which no run is here: by the documented rates, else by stated assumptions.

Each figure's basis says which. What nothing says is left out.
"""

from dataclasses import dataclass

from olmo_core.forecast import loads
from olmo_core.forecast.figures import Figure, Place
from olmo_core.forecast.loads import Load, Work, load_of, number_of
from olmo_core.forecast.outputs import BYTES_OF_A_TOKEN
from olmo_core.monitor.devices import known_device

START_SECONDS = 1.0
LIBRARIES_SECONDS = 10.0  # of a job that imports torch and transformers and loads models
SMALL_SECONDS, SMALL_BYTES = 1.0, 1e5  # of a job that writes tables
PROCESS_BYTES = 572 * 2**20  # the most of a process, with 2 GB of text (docs/corpus.md)
LIBRARIES_BYTES = 500e6  # of a process with torch and transformers
WEIGHT_BYTES = 4
STORAGE = 200e6  # bytes per second that weights are read and written at
TOKENS_OF_A_DOCUMENT = 1000.0  # of an evaluation: its examples and all choices together
FORWARD = 2.0  # FLOPs per parameter and token: a third of training's 6
EVALUATION_MFU = 0.2
# Reached by a core in float32: 49 GFLOP/s on two, a step of the demo's shape (docs/performance.md).
CPU_FLOPS = 25e9


@dataclass(frozen=True)
class Documented:
    """A pass of the corpus as docs/corpus.md has it, "Three trillion tokens, on paper"."""

    rate: float  # MB of text per CPU-second
    disk: float  # bytes per byte of text


# The disk of small outputs is that of the demo's.
_DOCUMENTED = {
    "raw": Documented(18.7, 0.25),
    "near_duplicates": Documented(35.3, 0.002),
    "held_out": Documented(24.6, 0.25),
    "tagged": Documented(1.0, 0.17),
    "deduplicated": Documented(29.7, 0.01),
    "decontaminated": Documented(10.4, 0.005),
    "filtered": Documented(4.2, 0.25),
    "tokens": Documented(10.2, 1.0),
    "documents": Documented(46.6, 0.04),
}


def assumed(work: Work, place: Place) -> dict[str, Figure]:
    """Return the figures of a job of which no run is here, by name."""
    if work.asset in _DOCUMENTED:
        load = load_of(work)
        return _documented(work, load, place) if load else {}
    if work.module in loads.OF_WEIGHTS:
        return _of_weights(work)
    if work.module in loads.OF_SCORES:
        return _of_scores(work, place)
    return {
        "seconds": Figure(value=SMALL_SECONDS, basis="assumed: seconds"),
        "disk_bytes": Figure(value=SMALL_BYTES, basis="assumed: small"),
        "memory_bytes": Figure(value=LIBRARIES_BYTES, basis="assumed: libraries alone"),
    }


def reached_flops(place: Place, mfu: float) -> tuple[float, str] | None:
    """Return the FLOP/s that a device reaches, and how that is known; None where nothing says it.

    Args:
        place: Where; of a place without GPUs the cores of a node are a device.
        mfu: The share of a GPU's dense bf16 peak.
    """
    if not place.gpus:
        cores = place.cores or 1
        return CPU_FLOPS * cores, f"{CPU_FLOPS / 1e9:g} GFLOP/s per core, {cores} cores"
    known = known_device(place.device)
    if known is None:
        return None
    how = f"{mfu:.0%} of the {known.flops / 1e12:g} TFLOP/s of {place.device}"
    return known.flops * mfu, f"MFU {how}"


def _documented(work: Work, load: Load, place: Place) -> dict[str, Figure]:
    known, processes = _DOCUMENTED[work.asset], place.cores or 1
    disk, of_disk = known.disk * load.amount, f"docs/corpus.md: {known.disk:g} of the text"
    if work.asset == "tokens":
        size = 2 if (number_of(work, "tokenizer", "vocab_size") or 0) <= 1 << 16 else 4
        disk = size * load.amount / BYTES_OF_A_TOKEN
        of_disk = f"{size} bytes per token; assumed: {BYTES_OF_A_TOKEN:g} bytes of text per token"
    every = processes * place.nodes
    return {
        "seconds": Figure(
            value=START_SECONDS + load.amount / 1e6 / known.rate / every,
            basis=f"docs/corpus.md: {known.rate:g} MB of text per CPU-second; {load}, "
            f"{every} core{'s' * (every > 1)}",
        ),
        "disk_bytes": Figure(value=disk, basis=of_disk),
        "memory_bytes": Figure(
            value=float(PROCESS_BYTES * processes),
            basis="docs/corpus.md: at most 572 MiB per process",
        ),
    }


def _of_weights(work: Work) -> dict[str, Figure]:
    """Assume that weights are read and written as fast as the storage can."""
    read, one = loads.model_parameters(work), _largest(work)
    if not read:
        return {}
    written = WEIGHT_BYTES * (read if work.module == loads.EXPORT else one)
    start = LIBRARIES_SECONDS if work.module == loads.EXPORT else START_SECONDS
    return {
        "seconds": Figure(
            value=start + (WEIGHT_BYTES * read + written) / STORAGE,
            basis=f"assumed: weights at {STORAGE / 1e6:.0f} MB/s",
        ),
        "disk_bytes": Figure(value=written, basis=f"{WEIGHT_BYTES} bytes per parameter"),
        "memory_bytes": Figure(
            value=LIBRARIES_BYTES + WEIGHT_BYTES * one,
            basis="assumed: libraries, and the weights of one model",
        ),
    }


def scoring(work: Work) -> dict[str, Figure]:
    """Return the FLOPs of an evaluation, and the tokens of a checkpoint's: one forward pass each.

    Empty where its models or texts are not known. `tokens` of all else are those that are trained
    on, so that evaluations of a graph have none.
    """
    if work.from_cache:
        found = {"tokens": 0.0, "flops": 0.0}
        basis = dict.fromkeys(found, "scores of equal weights are in the cache")
    else:
        parameters, tokens = loads.model_parameters(work), _scored_tokens(work)
        if not parameters or tokens is None:
            return {}
        found = {"tokens": tokens, "flops": FORWARD * parameters * tokens}
        each = f"{TOKENS_OF_A_DOCUMENT:,.0f} tokens per document"
        if work.module != loads.DOWNSTREAM:
            each = f"{BYTES_OF_A_TOKEN:g} bytes of text per token"
        basis = {"tokens": f"assumed: {each}", "flops": f"{FORWARD:g} per parameter and token"}
    return {
        name: Figure(value=value, basis=basis[name])
        for name, value in found.items()
        if name == "flops" or work.asset in loads.OF_CHECKPOINTS
    }


def _of_scores(work: Work, place: Place) -> dict[str, Figure]:
    """Assume one forward pass over so many tokens with each model, on one device."""
    figures = scoring(work)
    if not figures:
        return {}
    figures |= {
        "disk_bytes": Figure(value=SMALL_BYTES, basis="assumed: small"),
        "memory_bytes": Figure(
            value=LIBRARIES_BYTES + WEIGHT_BYTES * _largest(work),
            basis="assumed: libraries, and the weights of one model",
        ),
    }
    if work.from_cache:
        seconds = LIBRARIES_SECONDS if work.first_in_process else START_SECONDS
        basis = f"assumed: {seconds:g} s, the scores are in the cache"
        return figures | {"seconds": Figure(value=seconds, basis=basis)}
    reached = reached_flops(place, EVALUATION_MFU)
    if reached is not None:
        value, how = reached
        basis = f"assumed: {_scored_tokens(work):,.0f} tokens with each model, {how}"
        start = LIBRARIES_SECONDS if work.first_in_process else START_SECONDS
        seconds = start + figures["flops"].value / value
        figures["seconds"] = Figure(value=seconds, basis=basis)
    return figures


def _scored_tokens(work: Work) -> float | None:
    """Return the tokens that are scored with each model."""
    if work.module == loads.DOWNSTREAM:
        return TOKENS_OF_A_DOCUMENT * loads.documents(work)
    text = number_of(work, "held_out", "scored_bytes")
    points = float(work.config.get("points", 1))
    return None if text is None else points * text / BYTES_OF_A_TOKEN


def _largest(work: Work) -> float:
    return max((float(each.get("parameters", 0)) for each in work.inputs.values()), default=0.0)
