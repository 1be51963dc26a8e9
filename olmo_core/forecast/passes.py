"""What a job takes that is no training run: passes of the corpus, evaluations, exports, tables.

By the runs of it that are most like it, in proportion to its load and to the cores; where none has
been made here, as `assumed`.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from olmo_core.forecast import loads
from olmo_core.forecast.assumed import LIBRARIES_SECONDS, WEIGHT_BYTES, assumed, scoring
from olmo_core.forecast.figures import Figure, Forecast, Place, charged, median_of, seconds_said
from olmo_core.forecast.like import Like, nearest, of_several, said
from olmo_core.forecast.loads import Numbers, Work
from olmo_core.forecast.outputs import outputs
from olmo_core.forecast.past import PastRun

CORPUS = "olmo_core.corpus."
OF_TIME = ("seconds", "device_hours", "money", "device_kwh", "site_kwh", "co2_kg")


def forecast_pass(work: Work, place: Place, runs: Sequence[PastRun]) -> Forecast:
    """Return what a job takes that is no training run.

    Args:
        work: The job.
        place: Where it runs.
        runs: Finished runs of the same asset.
    """
    likes = nearest(work, place, runs)
    figures = _measured(work, likes) if likes else assumed(work, place)
    if work.module in loads.OF_SCORES:
        figures = {**scoring(work), **figures}
    further, unknown = {}, {}
    if "seconds" in figures:
        further, unknown = charged(
            place, figures["seconds"], watts=likes[0].run.watts if likes else None
        )
    figures = {**figures, **further}
    reason = "nothing like it has been run here, and how much it has to do is not known"
    missing = [*OF_TIME, "disk_bytes", "memory_bytes"]
    unknown = {name: unknown.get(name, reason) for name in missing if name not in figures}
    return Forecast(
        asset=work.asset, figures=figures, unknown=unknown, numbers=outputs(work, likes)
    )


def _measured(work: Work, likes: Sequence[Like]) -> dict[str, Figure]:
    """Return the figures by finished runs: of several the median, and of memory the largest."""
    one = likes[0]
    of_corpus = work.module.startswith(CORPUS)
    grows = of_corpus or work.module in loads.OF_WEIGHTS  # its outputs, with its load
    whose = f"({of_several(likes)}{said(one.differences)})"
    load = f" for {one.load}" if one.load else ""
    ratio = f", × {one.ratio:.3g}" if round(one.ratio, 3) != 1 else ""
    cores = f", / {one.cores:.3g} for the cores" if one.cores != 1 else ""
    processes = ", × processes" if of_corpus and one.processes != 1 else ""
    weights = _more_weights(work, one)
    models, more_models = _more_models(work, one)

    def middle(value: Callable[[Like], float]) -> float:
        return statistics.median(value(each) for each in likes)

    taken = seconds_said([each.run.start_seconds + each.run.work_seconds for each in likes])
    loading, said_loading = _loading(work, one)
    seconds, seen = median_of(
        [
            loading + each.run.start_seconds + each.run.work_seconds * each.ratio / each.cores
            for each in likes
        ]
    )
    return {
        "seconds": Figure(
            value=seconds,
            basis=f"measured: {taken}{load}{ratio}{cores}{said_loading} {whose}",
            seen=seen,
        ),
        "disk_bytes": Figure(
            value=middle(
                lambda each: (
                    each.run.disk_bytes * each.ratio
                    if grows
                    else each.run.disk_bytes + each.run.output_bytes * (models - 1)
                )
            ),
            basis=f"measured{ratio if grows else more_models} {whose}",
        ),
        "memory_bytes": Figure(
            value=max(
                each.run.memory_bytes * (each.processes if of_corpus else 1) for each in likes
            )
            + weights,
            basis=f"measured{processes}{', and larger weights' if weights else ''} {whose}",
        ),
    }


def _loading(work: Work, one: Like) -> tuple[float, str]:
    """Return the seconds to load libraries that the like run does not tell, and that in words.

    A checkpoint's evaluation goes by one of models; the first in its process loads all the same.
    """
    if not work.first_in_process or one.run.result["asset"] == work.asset:
        return 0.0, ""
    return LIBRARIES_SECONDS, f", and {LIBRARIES_SECONDS:g} s to load libraries, assumed"


def _more_models(work: Work, one: Like) -> tuple[float, str]:
    """Return how many models an evaluation scores for each of the like run's, and that in words.

    What it writes has rows for each, of whatever size.
    """

    def models(inputs: Mapping[str, Numbers]) -> float:
        return float(inputs.get("export", {}).get("models", 1))

    ratio = models(work.inputs) / models(one.run.inputs) if work.module in loads.OF_SCORES else 1.0
    return ratio, "" if ratio == 1 else f", × {ratio:.3g} for the number of models"


def _more_weights(work: Work, one: Like) -> float:
    """Return by how many bytes one model's weights are larger than those of the like run's."""
    if work.module not in (*loads.OF_WEIGHTS, *loads.OF_SCORES):
        return 0.0

    def largest(inputs: Sequence[Numbers]) -> float:
        return max((float(each.get("parameters", 0)) for each in inputs), default=0.0)

    own, other = largest([*work.inputs.values()]), largest([*one.run.inputs.values()])
    return WEIGHT_BYTES * max(0.0, own - other)
