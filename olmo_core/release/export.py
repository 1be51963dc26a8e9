"""Export every model for Hugging Face; refuse if transformers does not compute the same.

Run as `python -m olmo_core.release.export RUN_FOLDER/config.yaml`. `exports/<model>/` loads with
`from_pretrained`; `hub/` holds the same files by revision; `revisions.txt` lists them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from olmo_core.checkpoint.soup import ingredient_order
from olmo_core.checkpoint.weight_files import total_bytes, weight_paths, weights_sha256
from olmo_core.checkpoint.weights import WEIGHTS
from olmo_core.config.release import ExportConfig
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import ConfigError
from olmo_core.files import sha256_file, write_atomic
from olmo_core.release.hub import link_revisions, revision_name, write_export
from olmo_core.release.parity import compare, input_device, require
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report


def make(config: ExportConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Export stage 1, the ingredients and the soup; the last of them becomes `main`."""
    torch.set_num_threads(job.processes)
    tokenizer = inputs["tokenizer"]
    trained = {name: folder for name, folder in inputs.items() if name != "tokenizer"}
    models: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    samples: dict[str, list[str]] = {}
    numbers: dict[str, int | str] = {}
    # stage 1, the ingredients by number, the soup
    order = sorted(ingredient_order(list(trained)), key=lambda name: name == "soup")
    for done, name in enumerate(order):
        job.progress(done, len(trained), unit="models", message=name)
        target = job.folder / "exports" / name
        row, numbers, texts = _export(config, name, trained[name], tokenizer, target, job)
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
                "sha256": weights_sha256(target),
                "source_sha256": sha256_file(trained[name] / "model" / WEIGHTS),
            }
        )
        rows.append({**known, **row, "same_weights_as": _equal_weights(models)})
        if texts:
            samples[name] = texts
    _write_revisions(config, job.folder, models)
    return Report(
        numbers={
            "models": len(models),
            **numbers,
            "max_relative_error": max(row["max_relative_error"] for row in rows),
        },
        tables={"models": rows},
        samples=samples,
        data={"models": models, "repository": config.repository, "hub": "hub"},
    )


def _export(
    config: ExportConfig, name: str, run: Path, tokenizer: Path, target: Path, job: Job
) -> tuple[dict[str, Any], dict[str, int | str], list[str]]:
    """Write and compare one model, which is out of memory afterwards.

    Returns:
        What the table of models says of its files and its logits; parameters and architecture;
        samples.
    """
    with job.timed("convert"):
        write_export(
            run / "model",
            tokenizer,
            target,
            dtype=config.dtype,
            max_shard_bytes=config.max_shard_bytes,
        )
    with job.timed("parity"):
        parity, theirs = compare(config, run / "model", target)
        require(parity, name, config.parity_tolerance)
    with job.timed("samples"):
        texts = continuations(
            theirs, target / "tokenizer.json", config.sample_prompts, config.sample_tokens
        )
    row = {
        "bytes": total_bytes(target),
        "files": len(weight_paths(target)),
        "max_relative_error": float(f"{parity.max_relative_error:.3g}"),
        "top1_agreement": parity.top1_agreement,
    }
    numbers = {"parameters": theirs.num_parameters(), "architecture": type(theirs).__name__}
    return row, numbers, texts


@torch.inference_mode()
def continuations(
    model: PreTrainedModel, tokenizer: Path, prompts: Sequence[str], new_tokens: int
) -> list[str]:
    """Return greedy continuations of prompts, for people to read.

    A model whose weights are streamed (`generate` refuses it) is read once per token.
    """
    encoder = read_tokenizer(tokenizer)
    device = input_device(model)
    texts: list[str] = []
    for prompt in prompts:
        last = torch.tensor([encoder.encode(prompt, add_special_tokens=False).ids], device=device)
        made: list[int] = []
        cache = None
        while len(made) < new_tokens and model.config.eos_token_id not in made:
            output = model(input_ids=last, past_key_values=cache, use_cache=True)
            cache, last = output.past_key_values, output.logits[:, -1:].argmax(-1)
            made.append(int(last))
        texts.append(prompt + encoder.decode(made))
    return texts


def _equal_weights(models: list[dict[str, Any]]) -> str:
    """Return the earlier revisions of the same weights: the hub layout has them once."""
    *before, last = models
    return ", ".join(m["revision"] for m in before if m["sha256"] == last["sha256"])


def _write_revisions(config: ExportConfig, folder: Path, models: list[dict[str, Any]]) -> None:
    revisions = {model["revision"]: folder / model["path"] for model in models}
    if len(revisions) != len(models):
        raise ConfigError(f"two models have the same revision: {[m['revision'] for m in models]}")
    link_revisions(folder / "hub", config.repository, revisions)
    write_atomic(folder / "revisions.txt", "".join(f"{name}\n" for name in revisions))


if __name__ == "__main__":
    run_job(ExportConfig, make)
