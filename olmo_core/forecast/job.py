"""What one job will take, whichever it is."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from olmo_core.config.train import TrainConfig
from olmo_core.forecast.checkpoints import evaluations
from olmo_core.forecast.figures import Figure, Forecast, Place
from olmo_core.forecast.like import nearest
from olmo_core.forecast.loads import EVALUATION_OF, Work
from olmo_core.forecast.passes import forecast_pass
from olmo_core.forecast.past import find_runs
from olmo_core.forecast.sources import source_text
from olmo_core.forecast.training import TrainingWork, forecast_training
from olmo_core.run.code import TRAINING

TRAININGS = ("stage1", "stage2_ingredient*")


def forecast_job(
    work: Work,
    place: Place,
    roots: Sequence[Path],
    *,
    config: TrainConfig | None = None,
    text: Figure | None = None,
) -> Forecast:
    """Return what a job will take: by finished runs of these roots, else as assumed.

    Args:
        work: The job.
        place: Where it runs.
        roots: Of this installation, whose finished runs count.
        config: Of a training run, complete.
        text: Of `raw`, how much there is, where its sources do not say it.

    Raises:
        ConfigError: the devices do not divide the global batch of a training run.
    """
    if work.module == TRAINING:
        assert config is not None
        mixes = [each.get("tokens") for name, each in work.inputs.items() if name.endswith("_mix")]
        training = TrainingWork(
            asset=work.asset, config=config, mix_tokens=mixes[0] if mixes else None
        )
        return forecast_training(training, place, find_runs(roots, TRAININGS))
    if work.asset in EVALUATION_OF:
        own = evaluations(work, roots)
        of_models = find_runs(roots, [EVALUATION_OF[work.asset]])
        return forecast_pass(work, place, own if nearest(work, place, own) else of_models)
    runs = find_runs(roots, [work.asset])
    if work.asset == "raw":
        text = source_text(work.config, runs, text)
        known = {"raw": {"text_bytes": text.value}} if text else {}
        forecast = forecast_pass(replace(work, inputs=known), place, runs)
        found = {"text_bytes": text} if text else {}
        return replace(forecast, figures={**found, **forecast.figures})
    return forecast_pass(work, place, runs)


def to_record(forecast: Forecast, place: Place) -> dict[str, Any]:
    """Return what launch.json keeps of a forecast, to be set beside what was measured."""
    return {
        "figures": {name: asdict(figure) for name, figure in forecast.figures.items()},
        "unknown": dict(forecast.unknown),
        "place": {
            "nodes": place.nodes,
            "gpus": place.gpus,
            "device": place.device,
            "prices": asdict(place.prices) if place.prices else None,
        },
    }
