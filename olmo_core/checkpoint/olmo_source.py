"""Start from OLMo's own unsharded checkpoints, `step{N}-unsharded/`.

`config.yaml`, `model.safetensors` or `model.pt`, `optim.…`, `train.…`. Sources: OLMo's
`olmo/checkpoint.py` (`FullCheckpointer`), `olmo/safetensors_util.py`, `olmo/model.py`; how fused
matrices divide: `scripts/convert_olmo2_to_hf.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from olmo_core.checkpoint.place import Place
from olmo_core.checkpoint.source import (
    Position,
    Stored,
    copy_strictly,
    describe_weights,
    read_model,
    require_same_model,
)
from olmo_core.checkpoint.state import MODEL, OPTIM
from olmo_core.checkpoint.tensors import Key, flatten, open_olmo_safetensors, open_torch
from olmo_core.config.load import load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError

CONFIG = "config.yaml"
WEIGHTS = ("model.safetensors", "model.pt")
MOMENTS = ("optim.safetensors", "optim.pt")
TRAINER = ("train.safetensors", "train.pt", "other.pt")  # the last: of its first versions
_STEP, _TOKENS = "global_step", "global_train_tokens_seen"
_EXAMPLES = "global_train_examples_seen_this_epoch"
_PREFIX = "_fsdp_wrapped_module."  # in files of old versions
_ADAPTIVE_CLIPPING = "grad_norm_exp_avg"  # a statistic that AdamW's update does not use
_WHOLE = {
    "transformer.wte": "embeddings",
    "transformer.ff_out": "lm_head",
    "transformer.ln_f": "norm",
}
_IN_BLOCK = {
    "attn_out": "attention.w_out",
    "q_norm": "attention.q_norm",
    "k_norm": "attention.k_norm",
    "attn_norm": "attention_norm",
    "ff_out": "feed_forward.w2",
    "ff_norm": "feed_forward_norm",
}


@dataclass(frozen=True)
class OlmoCheckpoint:
    """A folder of OLMo's, fetched as far as it is asked for (`source.Source`)."""

    place: Place
    model: ModelConfig  # the run's
    has_training_state: bool = True

    @property
    def location(self) -> str:
        """Where it lies."""
        return self.place.location

    def position(self) -> Position:
        """Where OLMo's trainer stood, and how its data were shuffled."""
        state = flatten_file(self._file(TRAINER), only=(_STEP, _TOKENS, _EXAMPLES))
        missing = [key for key in (_STEP, _TOKENS) if (key,) not in state]
        if missing:
            raise InputError(f"{self.place}: its trainer state lacks {', '.join(missing)}")
        config = load(self.place.file(CONFIG))
        seed = (config.get("data") or {}).get("seed")
        order = {
            "algorithm": "olmo",
            "seed": config.get("seed") if seed is None else seed,
            "global_batch_size": config.get("global_train_batch_size"),
        }
        return Position(
            step=int(state[_STEP,]),
            tokens=int(state[_TOKENS,]),
            order=order,
            examples=state.get((_EXAMPLES,)),
        )

    def identify(self) -> dict[str, Any]:
        """Its weights' digest."""
        step = re.fullmatch(r"step(\d+)(-unsharded)?", self.place.name)
        digest = describe_weights([self._file(WEIGHTS)])
        return {"step": int(step[1]) if step else None, "model_sha256": None, **digest}

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        """Copy weights and moments, fused matrices in their parts."""
        where = f"{self.place}/{CONFIG}"
        theirs = read_model(load(self.place.file(CONFIG)), where)
        require_same_model(where, theirs, self.model)
        try:
            stored = _weights(flatten_file(self._file(WEIGHTS)), self.model)
            if optimizer is not None:
                stored |= _moments(flatten_file(self._file(MOMENTS)), self.model)
        except InputError as error:
            raise InputError(f"{self.place}: {error}") from error
        copy_strictly(self.location, stored, model, optimizer)

    def _file(self, names: tuple[str, ...]) -> Path:
        found = self.place.first_of(names)
        if found is None:
            raise InputError(f"{self.place}: there is no {' or '.join(names)}")
        return self.place.file(found)


def flatten_file(path: Path, *, only: tuple[str, ...] | None = None) -> dict[Key, Any]:
    """A file of OLMo's in either format, by key tuples; `only` names the outermost keys wanted."""
    if path.suffix == ".safetensors":
        return open_olmo_safetensors(path, only=only)
    return flatten(open_torch(path))


def parts(name: str, whole: Stored, model: ModelConfig) -> dict[str, Stored]:
    """One of OLMo's tensors under our names; `att_proj` is [q; k; v], `ff_proj` [up; gate]."""
    stem, _, kind = name.rpartition(".")
    block, _, short = stem.rpartition(".")
    index = re.fullmatch(r"transformer\.blocks\.(\d+)", block)
    if index is None or short not in ("att_proj", "ff_proj", *_IN_BLOCK):
        return {f"{_WHOLE.get(stem, stem)}.{kind}": whole}
    within = f"blocks.{index[1]}"
    if short in _IN_BLOCK:
        return {f"{within}.{_IN_BLOCK[short]}.{kind}": whole}
    if short == "ff_proj":
        names = ("feed_forward.w3", "feed_forward.w1")
        rows = (model.feed_forward_size, model.feed_forward_size)
    else:
        names = ("attention.w_q", "attention.w_k", "attention.w_v")
        keys = model.kv_heads * (model.d_model // model.n_heads)
        rows = (model.d_model, keys, keys)
    if whole.shape[:1] != (sum(rows),):
        raise InputError(f"{name}: {whole.shape[0]} rows, the model's {' + '.join(map(str, rows))}")
    found: dict[str, Stored] = {}
    start = 0
    for part, count in zip(names, rows, strict=True):
        found[f"{within}.{part}.{kind}"] = _rows(whole, start, count)
        start += count
    return found


def _rows(whole: Stored, start: int, count: int) -> Stored:
    shape = (count, *whole.shape[1:])
    return Stored(shape, lambda: whole.read()[start : start + count].contiguous())


def _weights(state: Mapping[Key, Any], model: ModelConfig) -> dict[str, Stored]:
    stored: dict[str, Stored] = {}
    for key, whole in state.items():
        found = parts(_name(key[0]), _stored(whole), model)
        stored |= {MODEL + ours: part for ours, part in found.items()}
    return stored


def _moments(state: Mapping[Key, Any], model: ModelConfig) -> dict[str, Stored]:
    """AdamW's state, whether OLMo has it by parameter names or by numbers."""
    groups = state.get(("param_groups",))
    if not isinstance(groups, list):
        raise InputError("the optimizer's state has no param_groups")
    names: dict[Any, str] = {}
    for group in groups:
        by_name = group.get("param_names", group["params"])
        names |= dict(zip(group["params"], map(_name, by_name), strict=True))
        names |= {name: _name(name) for name in by_name}
    stored: dict[str, Stored] = {}
    counts: dict[str, Stored] = {}
    whole: dict[str, str] = {}  # our name -> the name of what it is a part of
    for key, value in state.items():
        if key[0] != "state" or key[-1] == _ADAPTIVE_CLIPPING:
            continue
        _, parameter, kind = key
        if parameter not in names:
            raise InputError(f"the optimizer's state has {parameter!r}, which no group names")
        name = names[parameter]
        if kind == "step":
            counts[name] = Stored((), lambda value=value: _stored(value).read().float().reshape(()))
            continue
        for ours, part in parts(name, _stored(value), model).items():
            stored[f"{OPTIM}{ours}.{kind}"] = part
            whole[ours] = name
    steps = {ours: counts[name] for ours, name in whole.items() if name in counts}
    return stored | {f"{OPTIM}{ours}.step": count for ours, count in steps.items()}


def _stored(value: Any) -> Stored:
    if isinstance(value, Tensor):
        return Stored(tuple(value.shape), lambda: value)
    if isinstance(value, Stored):
        return value
    return Stored((), lambda: torch.tensor(float(value)))


def _name(parameter: Any) -> str:
    return str(parameter).replace(_PREFIX, "")
