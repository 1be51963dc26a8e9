"""Start from OLMo's own unsharded checkpoints, `step{N}-unsharded/`.

`config.yaml`, `model.safetensors` or `model.pt`, `optim.…`, `train.…`. Sources: OLMo's
`olmo/checkpoint.py` (`FullCheckpointer`), `olmo/safetensors_util.py`, `olmo/model.py`; how fused
matrices divide: `scripts/convert_olmo2_to_hf.py`.
"""

import base64
import pathlib
import re
from collections.abc import Container, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from olmo_core.checkpoint.source import Place, Position, Source, require_same_model
from olmo_core.checkpoint.state import MODEL, OPTIM, copy_strictly
from olmo_core.checkpoint.tensor_file import Stored, open_safetensors
from olmo_core.checkpoint.unpickler import UNREADABLE, Unpickler
from olmo_core.config.load import load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import sha256_file

Key = tuple[Hashable, ...]

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
_FUSED = {
    "att_proj": ("attention.w_q", "attention.w_k", "attention.w_v"),
    "ff_proj": ("feed_forward.w3", "feed_forward.w1"),
}


def open_olmo(place: Place, model: ModelConfig) -> Source:
    """Open a folder of OLMo's, fetched as far as it is asked for.

    Raises:
        InputError: it is another model than the run's.
    """
    config = load(place.file(CONFIG))
    require_same_model(f"{place}/{CONFIG}", config, model)
    return Source(
        location=place.location,
        identify=partial(_identify, place),
        load=partial(_load, place, model),
        position=partial(_position, place, config),
    )


def _position(place: Place, config: Mapping[str, Any]) -> Position:
    """Return where OLMo's trainer stood, and how its data were shuffled."""
    state = read_flat(_file(place, TRAINER), only=(_STEP, _TOKENS, _EXAMPLES))
    missing = [key for key in (_STEP, _TOKENS) if (key,) not in state]
    if missing:
        raise InputError(f"{place}: its trainer state lacks {', '.join(missing)}")
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


def _identify(place: Place) -> dict[str, Any]:
    """Return its step, if its name tells, and its weights' digest."""
    step = re.fullmatch(r"step(\d+)(-unsharded)?", place.name)
    path = _file(place, WEIGHTS)
    digest = {"model_sha256": None, "weights_sha256": {path.name: sha256_file(path)}}
    return {"step": int(step[1]) if step else None, **digest}


def _load(place: Place, model: ModelConfig, state: dict[str, Tensor]) -> None:
    """Copy weights and moments, fused matrices in their parts."""
    try:
        stored = {
            MODEL + ours: part
            for key, whole in read_flat(_file(place, WEIGHTS)).items()
            for ours, part in parts(_name(key[0]), _stored(whole), model).items()
        }
        if any(name.startswith(OPTIM) for name in state):
            stored |= _moments(read_flat(_file(place, MOMENTS)), model)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    copy_strictly(place, stored, state)


def _file(place: Place, names: tuple[str, ...]) -> Path:
    found = place.first_of(names)
    if found is None:
        raise InputError(f"{place}: there is no {' or '.join(names)}")
    return place.file(found)


def read_flat(path: Path, *, only: Container[str] | None = None) -> dict[Key, Any]:
    """Read a file of OLMo's in either format, without running any of its code.

    Args:
        path: What `torch.save` wrote, or safetensors: there, keys are tuples in base64 of a pickle,
            and what is no tensor is pickled too.
        only: The outermost keys that are wanted of safetensors; None: all.

    Returns:
        Tensors, not read yet, and plain values by their key tuples.

    Raises:
        InputError: it is truncated, or holds objects that only running code could make.
    """
    if path.suffix != ".safetensors":
        return _flatten(_read_torch(path))
    found: dict[Key, Any] = {}
    for name, stored in open_safetensors(path).items():
        try:
            if name.startswith("transformer."):  # by its plain name
                found[(name,)] = stored
                continue
            key, is_pickled = Unpickler(base64.urlsafe_b64decode(name)).load()
            if only is None or key[0] in only:
                found[key] = Unpickler(stored.read().numpy()).load() if is_pickled else stored
        except UNREADABLE as error:
            raise InputError(f"{path}: {name[:60]!r}: {error}") from error
    return found


def _read_torch(path: Path) -> Any:
    rebuild = np.zeros(1).__reduce__()[0]
    harmless = [  # what OLMo's trainer state holds beside numbers: paths, numpy's random state
        (pathlib.PosixPath, "pathlib.PosixPath"),
        (pathlib.PosixPath, "pathlib._local.PosixPath"),
        (rebuild, "numpy.core.multiarray._reconstruct"),  # numpy 1
        (rebuild, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.uint32)),
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as plain tensors: {reason}") from error


def _flatten(tree: Any, key: Key = ()) -> dict[Key, Any]:
    if not isinstance(tree, dict):
        return {key: tree}
    flat: dict[Key, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, (*key, name))
    return flat


def parts(name: str, whole: Stored, model: ModelConfig) -> dict[str, Stored]:
    """Return a tensor of OLMo's under our names; `att_proj` is [q; k; v], `ff_proj` [up; gate]."""
    stem, _, kind = name.rpartition(".")
    block, _, short = stem.rpartition(".")
    index = re.fullmatch(r"transformer\.blocks\.(\d+)", block)
    if index is None or short not in _IN_BLOCK | _FUSED:
        return {f"{_WHOLE[stem]}.{kind}" if stem in _WHOLE else name: whole}
    within = f"blocks.{index[1]}"
    if short in _IN_BLOCK:
        return {f"{within}.{_IN_BLOCK[short]}.{kind}": whole}
    rows = [model.feed_forward_size] * 2
    if short == "att_proj":
        rows = [model.d_model, *[model.kv_heads * model.head_dim] * 2]
    if whole.shape[:1] != (sum(rows),):
        raise InputError(f"{name}: {whole.shape[0]} rows, the model's {' + '.join(map(str, rows))}")
    return {
        f"{within}.{part}.{kind}": _rows(whole, sum(rows[:i]), rows[i])
        for i, part in enumerate(_FUSED[short])
    }


def _rows(whole: Stored, start: int, count: int) -> Stored:
    shape = (count, *whole.shape[1:])
    return Stored(shape, lambda: whole.read()[start : start + count].contiguous())


def _moments(state: Mapping[Key, Any], model: ModelConfig) -> dict[str, Stored]:
    """Return AdamW's state, whether OLMo has it by parameter names or by numbers."""
    groups = state.get(("param_groups",))
    if not isinstance(groups, list):
        raise InputError("the optimizer's state has no param_groups")
    names: dict[Any, str] = {}
    for group in groups:
        by_name = group.get("param_names", group["params"])
        names |= dict(zip(group["params"], map(_name, by_name), strict=True))
        names |= {name: _name(name) for name in by_name}
    stored: dict[str, Stored] = {}
    for key, value in state.items():
        if key[0] != "state" or key[-1] == _ADAPTIVE_CLIPPING:
            continue
        _, parameter, kind = key
        if parameter not in names:
            raise InputError(f"the optimizer's state has {parameter!r}, which no group names")
        if kind == "step":
            continue
        count = state.get(("state", parameter, "step"))
        for ours, part in parts(names[parameter], _stored(value), model).items():
            stored[f"{OPTIM}{ours}.{kind}"] = part
            if count is not None:
                stored[f"{OPTIM}{ours}.step"] = _scalar(count)
    return stored


def _scalar(value: Any) -> Stored:
    return Stored((), lambda: _stored(value).read().float().reshape(()))


def _stored(value: Any) -> Stored:
    if isinstance(value, Tensor):
        return Stored(tuple(value.shape), lambda: value)
    if isinstance(value, Stored):
        return value
    return Stored((), lambda: torch.tensor(float(value)))


def _name(parameter: Any) -> str:
    return str(parameter).replace(_PREFIX, "")
