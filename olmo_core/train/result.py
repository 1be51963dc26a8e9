"""What a finished training run leaves and says: the model folder and the report."""

import hashlib
import shutil
import statistics
from typing import Any

import torch

from olmo_core.checkpoint.weights import WEIGHTS, save_model
from olmo_core.config.model import count_parameters
from olmo_core.config.train import identity
from olmo_core.files import sha256_file
from olmo_core.monitor.metrics import JOULES_PER_KWH
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.run.job import Report
from olmo_core.train.trainer import Trainer

CONTENT = (f"model/{WEIGHTS}", "model/config.yaml")  # what the result's digest covers
_FINAL_STEPS = 10  # the reported loss is their mean: one step's is noise
_CURVE_ROWS = 20


def write_outputs(trainer: Trainer) -> Report:
    """Write `model/` and make the report; the first rank calls it once training is over."""
    config, state = trainer.config, trainer.state
    folder = RunFolder(config.save_folder)
    shutil.rmtree(folder.path / "model", ignore_errors=True)  # what a killed attempt had begun
    save_model(folder.path / "model", trainer.model, identity(config))
    rows = [row for row in read_metrics(folder.metrics) if "train/CrossEntropyLoss" in row]
    losses = [row["train/CrossEntropyLoss"] for row in rows[-_FINAL_STEPS:]]
    loss = sum(losses) / len(losses) if losses else None
    pace = _median(rows, "throughput/device/tokens_per_second")
    mfu = _median(rows, "throughput/device/MFU")
    source = trainer.energy.source
    numbers: dict[str, int | float | None] = {
        "parameters": count_parameters(config.model).total,
        "steps": state.step,
        "tokens": state.tokens,
        "threads": torch.get_num_threads(),
        "ranks": trainer.world.size,
        "loss_nats_per_token": None if loss is None else round(loss, 4),
        "tokens_per_second": None if pace is None else round(pace * trainer.world.size, 1),
        "mfu_percent": None if mfu is None else round(mfu, 2),
        "energy_kwh": None if source is None else round(state.joules / JOULES_PER_KWH, 9),
    }
    first_batch = trainer.loader.batch(state.origin).input_ids.astype("<i8")
    return Report(
        numbers={name: value for name, value in numbers.items() if value is not None},
        tables={"learning": _curve(rows)},
        data={
            "run_name": config.run_name,
            "step": state.step,
            "tokens": state.tokens,
            "checkpoint": f"checkpoints/step{state.step}",
            "model_sha256": sha256_file(folder.path / "model" / WEIGHTS),
            "parent": state.parent,
            "first_batch_sha256": hashlib.sha256(first_batch.tobytes()).hexdigest(),
            "first_step": state.origin,
            "order": trainer.loader.order_spec(),
            "loss": loss,
            "energy_source": source,
        },
    )


def _median(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if name in row]
    return statistics.median(values) if values else None


def _curve(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a table short enough to read: evenly spaced steps, the last among them."""
    stride = max(1, -(-len(rows) // _CURVE_ROWS))
    return [
        {
            "step": row["step"],
            "tokens": row["throughput/total_tokens"],
            "loss": round(row["train/CrossEntropyLoss"], 4),
            "learning_rate": row["optim/learning_rate_group0"],
            "grad_norm": round(row["optim/total_grad_norm"], 4),
        }
        for row in rows[::-1][::stride][::-1]
    ]
