"""Check that transformers computes from an export what our own model computes from its weights."""

import pydoc_data.topics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from olmo_core.errors import InputError
from olmo_core.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the two models' logits are apart."""

    tokens: int  # positions compared
    max_relative_error: float  # largest |difference| over the largest |logit|
    top1_agreement: float  # share of positions with the same most likely token, ties aside


def text_batch(tokenizer: Path, sequences: int, length: int) -> Tensor:
    """Return token ids (sequences, length) of real text that every Python carries: its language
    manual.

    Raises:
        InputError: the tokenizer makes too few tokens of it.
    """
    topics: dict[str, str] = pydoc_data.topics.topics
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids
    if len(ids) < sequences * length:
        raise InputError(f"parity: {len(ids)} tokens of text for {sequences} x {length}")
    stride = len(ids) // sequences  # spread over the whole text
    return torch.tensor([ids[i * stride : i * stride + length] for i in range(sequences)])


@torch.inference_mode()
def compare(ours: Transformer, theirs: PreTrainedModel, batch: Tensor, tolerance: float) -> Parity:
    """Compare f32 logits on `batch` (B, T), one sequence at a time."""
    worst, largest, agreed = 0.0, 0.0, 0
    for ids in batch.split(1):
        expected = ours(ids.to(ours.embeddings.weight.device)).float()
        found = theirs(input_ids=ids.to(theirs.device)).logits.float().to(expected.device)
        worst = max(worst, (expected - found).abs().max().item())
        largest = max(largest, expected.abs().max().item())
        # Ours is a top choice of theirs: the same token, or one that ties within the tolerance.
        chosen = found.gather(-1, expected.argmax(-1, keepdim=True)).squeeze(-1)
        agreed += int((found.amax(-1) - chosen <= tolerance * largest).sum())
    return Parity(
        tokens=batch.numel(),
        max_relative_error=worst / largest if largest else worst,
        top1_agreement=agreed / batch.numel(),
    )


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
    encoder = Tokenizer.from_file(str(tokenizer))
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
