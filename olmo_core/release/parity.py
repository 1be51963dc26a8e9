"""Whether transformers computes from an exported folder what our model computes, on real text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor
from transformers import PreTrainedModel

from olmo_core.checkpoint.huggingface import Dtype, device_for_evaluation, load_pretrained
from olmo_core.checkpoint.state import assemble
from olmo_core.checkpoint.streamed import stream
from olmo_core.checkpoint.tensor_file import Stored, open_safetensors
from olmo_core.checkpoint.weight_files import is_sharded
from olmo_core.checkpoint.weights import CONFIG, WEIGHTS, read_model
from olmo_core.config.load import load
from olmo_core.config.release import ExportConfig
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far transformers' logits are from ours."""

    tokens: int  # positions compared
    max_relative_error: float  # largest |difference| over the largest |logit|
    top1_agreement: float  # share of positions with the same most likely token, ties aside


def compare(config: ExportConfig, source: Path, target: Path) -> tuple[Parity, PreTrainedModel]:
    """Compare f32 logits of our model and of the exported folder.

    Our weights are rounded as the exported ones are, so that what is compared is the conversion.
    The logits of one sequence are in memory at a time.

    Returns:
        The comparison, and the exported model as transformers loads it.
    """
    streamed = is_sharded(target)
    ours = _ours(source, config.dtype, streamed=streamed)
    theirs = load_pretrained(target, device_for_evaluation(), streamed=streamed)
    length = min(config.parity_sequence_length, ours.config.max_sequence_length)
    batch = text_batch(target / "tokenizer.json", config.parity_sequences, length)  # (B, T)
    worst, largest, agreed = 0.0, 0.0, 0
    with torch.inference_mode():
        ids = batch.to(input_device(theirs))
        for expected, found in _logits(ours, theirs, ids, streamed=streamed):
            largest = max(largest, expected.abs().max().item())
            # Ours is a top choice of theirs: the same token, or one that ties within the tolerance.
            chosen = found.gather(-1, expected.argmax(-1, keepdim=True)).squeeze(-1)
            agreed += int((found.amax(-1) - chosen <= config.parity_tolerance * largest).sum())
            worst = max(worst, expected.sub_(found).abs_().max().item())
    parity = Parity(
        tokens=batch.numel(),
        max_relative_error=worst / largest if largest else worst,
        top1_agreement=agreed / batch.numel(),
    )
    return parity, theirs


def _logits(
    ours: Transformer, theirs: PreTrainedModel, batch: Tensor, *, streamed: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield both sides' logits (1, T, V) in f32 of one sequence after another.

    Where weights are streamed a layer is read once and computed for all sequences. The head alone
    is read for each of them: their logits together may be larger than it is.
    """
    if not streamed:
        for ids in batch.split(1):
            yield ours(ids).float(), theirs(input_ids=ids).logits.float()
        return
    states = ours.hidden(batch), theirs.get_decoder()(input_ids=batch).last_hidden_state
    head = theirs.get_output_embeddings()
    assert head is not None
    for mine, other in zip(*(each.split(1) for each in states), strict=True):
        yield ours.lm_head(mine).float(), head(other).float()


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where a model's inputs belong: the CPU where its weights are streamed."""
    return torch.device("cpu") if model.device.type == "meta" else model.device


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


def _ours(source: Path, dtype: Dtype, *, streamed: bool) -> Transformer:
    """Return our model of a model folder, with its weights rounded to `dtype`, in f32."""
    config = read_model(load(source / CONFIG), str(source / CONFIG))
    path = source / WEIGHTS
    stored = _rounded(open_safetensors(path), dtype)
    if streamed:
        return stream(config, stored, path)
    return assemble(config, stored, path, device_for_evaluation())


def _rounded(stored: Mapping[str, Stored], dtype: Dtype) -> dict[str, Stored]:
    def read(tensor: Stored) -> Tensor:
        return tensor.read().to(getattr(torch, dtype))

    return {name: Stored(each.shape, partial(read, each)) for name, each in stored.items()}
