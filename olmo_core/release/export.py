"""Export every model for Hugging Face; refuse if transformers does not compute the same.

Run as `python -m olmo_core.release.export RUN_FOLDER/config.yaml`. `exports/<model>/` loads with
`from_pretrained`; `hub/` holds the same files by revision; `revisions.txt` lists them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from olmo_core.checkpoint.huggingface import device_for_evaluation, load_pretrained
from olmo_core.checkpoint.soup import ingredient_order
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.release import ExportConfig
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import sha256_file, write_atomic
from olmo_core.release.hub import link_revisions, revision_name, write_export
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far transformers' logits are from ours."""

    tokens: int  # positions compared
    max_relative_error: float  # largest |difference| over the largest |logit|
    top1_agreement: float  # share of positions with the same most likely token, ties aside


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
            parity, theirs = compare(config, trained[name] / "model", target)
            require(parity, name, config.parity_tolerance)
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


def compare(config: ExportConfig, source: Path, target: Path) -> tuple[Parity, PreTrainedModel]:
    """Compare f32 logits of our model and of the exported folder, one sequence at a time.

    Returns:
        The comparison, and the exported model as transformers loads it.
    """
    device = device_for_evaluation()
    ours, theirs = load_model(source, device), load_pretrained(target, device)
    length = min(config.parity_sequence_length, ours.config.max_sequence_length)
    batch = text_batch(target / "tokenizer.json", config.parity_sequences, length)  # (B, T)
    worst, largest, agreed = 0.0, 0.0, 0
    with torch.inference_mode():
        for ids in batch.to(device).split(1):
            expected, found = ours(ids).float(), theirs(input_ids=ids).logits.float()
            worst = max(worst, (expected - found).abs().max().item())
            largest = max(largest, expected.abs().max().item())
            # Ours is a top choice of theirs: the same token, or one that ties within the tolerance.
            chosen = found.gather(-1, expected.argmax(-1, keepdim=True)).squeeze(-1)
            agreed += int((found.amax(-1) - chosen <= config.parity_tolerance * largest).sum())
    parity = Parity(
        tokens=batch.numel(),
        max_relative_error=worst / largest if largest else worst,
        top1_agreement=agreed / batch.numel(),
    )
    return parity, theirs


def text_batch(tokenizer: Path, sequences: int, length: int) -> Tensor:
    """Return token ids (sequences, length) of the language manual that every Python carries.

    Raises:
        InputError: the tokenizer makes too few tokens of it.
    """
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = read_tokenizer(tokenizer).encode(text, add_special_tokens=False).ids
    if len(ids) < sequences * length:
        raise InputError(f"parity: {len(ids)} tokens of text for {sequences} x {length}")
    stride = len(ids) // sequences  # spread over the whole text
    return torch.tensor([ids[i * stride : i * stride + length] for i in range(sequences)])


def require(parity: Parity, model: str, tolerance: float) -> None:
    """Refuse an export that does not compute the same.

    Raises:
        InputError: names the model and the differences.
    """
    if parity.max_relative_error <= tolerance and parity.top1_agreement == 1.0:
        return
    raise InputError(
        f"{model}: transformers' logits differ from ours by {parity.max_relative_error:.2e} "
        f"(at most {tolerance:.0e}), the most likely token agrees at "
        f"{parity.top1_agreement:.4f} of {parity.tokens} positions; nothing is released"
    )


@torch.inference_mode()
def continuations(
    model: PreTrainedModel, tokenizer: Path, prompts: Sequence[str], new_tokens: int
) -> list[str]:
    """Return greedy continuations of prompts, for people to read."""
    encoder = read_tokenizer(tokenizer)
    texts: list[str] = []
    for prompt in prompts:
        ids = torch.tensor([encoder.encode(prompt, add_special_tokens=False).ids])
        output = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids.to(model.device),
            attention_mask=torch.ones_like(ids).to(model.device),
            max_new_tokens=new_tokens,
            do_sample=False,
        )
        texts.append(prompt + encoder.decode(output[0, ids.shape[1] :].tolist()))
    return texts


def _write_revisions(config: ExportConfig, folder: Path, models: list[dict[str, Any]]) -> None:
    revisions = {model["revision"]: folder / model["path"] for model in models}
    if len(revisions) != len(models):
        raise ConfigError(f"two models have the same revision: {[m['revision'] for m in models]}")
    link_revisions(folder / "hub", config.repository, revisions)
    write_atomic(folder / "revisions.txt", "".join(f"{name}\n" for name in revisions))


if __name__ == "__main__":
    run_job(ExportConfig, make)
