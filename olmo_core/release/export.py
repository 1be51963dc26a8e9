"""Export every model for Hugging Face; refuse if transformers does not compute the same.

Run as `python -m olmo_core.release.export RUN_FOLDER/config.yaml`. `exports/<model>/` loads with
`from_pretrained`; `hub/` holds the same files by revision; `revisions.txt` lists them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from olmo_core.checkpoint.pretrained import device_for_evaluation, load_pretrained
from olmo_core.checkpoint.soup import ingredient_order
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.release import ExportConfig
from olmo_core.errors import ConfigError
from olmo_core.files import sha256_file, write_atomic
from olmo_core.release.hub import link_revisions, revision_name, write_export
from olmo_core.release.parity import Parity, compare, continuations, require, text_batch
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report


def make(config: ExportConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Export stage 1, the ingredients and the soup; the last of them becomes `main`."""
    torch.set_num_threads(job.processes)
    tokenizer = inputs["tokenizer"]
    trained = {name: folder for name, folder in inputs.items() if name != "tokenizer"}
    models: list[dict[str, Any]] = []
    samples: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    # stage 1, the ingredients by number, the soup
    order = sorted(ingredient_order(list(trained)), key=lambda name: name == "soup")
    for done, name in enumerate(order):
        job.progress(done, len(trained), unit="models", message=name)
        target = job.folder / "exports" / name
        with job.timed("convert"):
            write_export(trained[name] / "model", tokenizer, target)
        with job.timed("parity"):
            parity, theirs = _check(config, trained[name] / "model", target, name)
        facts = RunFolder(trained[name]).read_result()["report"]["data"]
        step, tokens = facts.get("step"), facts.get("tokens")
        known = {
            "model": name,
            "revision": revision_name(name, step, tokens, final=name == order[-1]),
            "step": step,
            "tokens": tokens,
        }
        models.append(
            {
                **known,
                "path": f"exports/{name}",
                "sha256": sha256_file(target / "model.safetensors"),
                "source_sha256": sha256_file(trained[name] / "model" / "model.safetensors"),
            }
        )
        rows.append(
            {
                **known,
                "bytes": (target / "model.safetensors").stat().st_size,
                "max_relative_error": float(f"{parity.max_relative_error:.3g}"),
                "top1_agreement": parity.top1_agreement,
            }
        )
        with job.timed("samples"):
            texts = continuations(
                theirs, target / "tokenizer.json", config.sample_prompts, config.sample_tokens
            )
        if texts:
            samples[name] = texts
    _write_revisions(config, job.folder, models)
    return Report(
        numbers={
            "models": len(models),
            "parameters": theirs.num_parameters(),
            "architecture": type(theirs).__name__,
            "max_relative_error": max(row["max_relative_error"] for row in rows),
        },
        tables={"models": rows},
        samples=samples,
        data={"models": models, "repository": config.repository, "hub": "hub"},
    )


def _check(
    config: ExportConfig, source: Path, target: Path, name: str
) -> tuple[Parity, PreTrainedModel]:
    """Compare the exported folder with our model; return the comparison and the loaded model."""
    device = device_for_evaluation()
    ours, theirs = load_model(source, device), load_pretrained(target, device)
    length = min(config.parity_sequence_length, ours.config.max_sequence_length)
    batch = text_batch(target / "tokenizer.json", config.parity_sequences, length)
    parity = compare(ours, theirs, batch, config.parity_tolerance)
    require(parity, name, config.parity_tolerance)
    return parity, theirs


def _write_revisions(config: ExportConfig, folder: Path, models: list[dict[str, Any]]) -> None:
    revisions = {model["revision"]: folder / model["path"] for model in models}
    if len(revisions) != len(models):
        raise ConfigError(f"two models have the same revision: {[m['revision'] for m in models]}")
    link_revisions(folder / "hub", config.repository, revisions)
    write_atomic(folder / "revisions.txt", "".join(f"{name}\n" for name in revisions))


if __name__ == "__main__":
    run_job(ExportConfig, make)
