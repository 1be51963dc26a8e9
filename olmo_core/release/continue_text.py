"""Continue a text by a model folder, for people to read: what `olmo sample` starts as a process.

Run as `python -m olmo_core.release.continue_text`; a request in JSON on standard input, a line of
JSON per continuation on standard output. No job imports it: it decides no result.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from olmo_core.checkpoint.huggingface import device_for_evaluation, load_pretrained
from olmo_core.checkpoint.layout import CHECKPOINTS
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError, exit_codes
from olmo_core.evals.checkpoint import export_checkpoint
from olmo_core.release.hub import write_export


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to continue, by what, and how."""

    model: str  # Hugging Face folder, model folder of ours, or checkpoint of a run
    tokenizer: str | None  # the run folder, of what is not in Hugging Face's form
    prompt: str
    count: int
    max_new_tokens: int
    temperature: float  # 0: the most likely token each time
    top_p: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One continuation; `ended` is whether the model ended the document itself."""

    text: str
    tokens: int
    ended: bool


def continuations(request: Request) -> Iterator[Continuation]:
    """Yield the continuations; each is what it is whatever the number of others.

    Raises:
        InputError: the folder holds no whole model, or prompt and new tokens are more than its
            context.
    """
    with tempfile.TemporaryDirectory(prefix="olmo-sample-") as scratch:
        folder = _pretrained(Path(request.model), request.tokenizer, Path(scratch))
        if not (folder / "tokenizer.json").is_file():
            raise InputError(f"{folder}: no tokenizer.json, so no text can be read or written")
        encoder = read_tokenizer(folder / "tokenizer.json")
        model = load_pretrained(folder, device_for_evaluation())
    config: Any = model.config
    prompt = encoder.encode(request.prompt, add_special_tokens=False).ids
    prompt = prompt or [config.eos_token_id]  # as a document begins: after another's end
    context = getattr(config, "max_position_embeddings", None)
    wanted = len(prompt) + request.max_new_tokens
    if context is not None and wanted > context:
        raise InputError(
            f"{request.model}: {len(prompt)} tokens of the prompt and {request.max_new_tokens} new "
            f"ones; the model's context has {context}"
        )
    for number in range(request.count):
        random = torch.Generator().manual_seed(request.seed + number)
        yield _continuation(model, encoder, prompt, request, random)


@torch.inference_mode()
def _continuation(
    model: Any, encoder: Tokenizer, prompt: list[int], request: Request, random: torch.Generator
) -> Continuation:
    last = torch.tensor([prompt], device=model.device)
    made: list[int] = []
    cache = None
    ended = False
    while len(made) < request.max_new_tokens and not ended:
        output = model(input_ids=last, past_key_values=cache, use_cache=True)
        logits = output.logits[0, -1, : encoder.get_vocab_size()]  # without the padding rows
        token = choose(logits.float().cpu(), request.temperature, request.top_p, random)
        cache, last = output.past_key_values, torch.tensor([[token]], device=model.device)
        made.append(token)
        ended = token == model.config.eos_token_id
    text = encoder.decode(made[:-1] if ended else made)
    return Continuation(text=text, tokens=len(made), ended=ended)


def choose(logits_V: Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """Return the next token: the most likely one at temperature 0, else drawn.

    Of the distribution at a temperature those tokens are left that are the most likely and together
    have a probability of `top_p` (Holtzman et al., 2020, "The Curious Case of Neural Text
    Degeneration").

    Raises:
        InputError: the logits are no finite numbers.
    """
    if not logits_V.isfinite().all():
        raise InputError("the model gives logits that are no finite numbers: it has diverged")
    if temperature == 0:
        return int(logits_V.argmax())
    shares_V, order_V = (logits_V / temperature).softmax(-1).sort(descending=True, stable=True)
    before_V = shares_V.cumsum(-1) - shares_V  # of the more likely ones
    shares_V[(before_V >= top_p) & (torch.arange(len(shares_V)) > 0)] = 0.0
    return int(order_V[torch.multinomial(shares_V, 1, generator=random)])


def _pretrained(model: Path, tokenizer: str | None, scratch: Path) -> Path:
    """Return a Hugging Face folder of the model: itself, or converted into `scratch`."""
    if tokenizer is None:
        return model
    if model.parent.name == CHECKPOINTS:
        return export_checkpoint(model, Path(tokenizer), scratch).path
    write_export(model, Path(tokenizer), scratch / "export")
    return scratch / "export"


def main() -> None:
    """Answer one request."""
    with exit_codes():
        request = Request(**json.load(sys.stdin))
        for each in continuations(request):
            print(json.dumps(vars(each)), flush=True)


if __name__ == "__main__":
    main()
