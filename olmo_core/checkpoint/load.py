"""What `load_path` means: whatever format lies there, here or elsewhere."""

import re
from pathlib import Path

from olmo_core.checkpoint import huggingface_source as huggingface
from olmo_core.checkpoint import layout
from olmo_core.checkpoint import olmo_source as olmo
from olmo_core.checkpoint.own import OwnWeights, open_checkpoint, open_newest
from olmo_core.checkpoint.place import Place
from olmo_core.checkpoint.source import Source
from olmo_core.checkpoint.tensors import open_safetensors
from olmo_core.config.load import load
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.parallel.world import World
from olmo_core.remote.fetch import cache_folder

_STEP = re.compile(r"step\d+")
_SHOWN = 8  # checkpoints that an error lists


def resolve(
    load_path: str, *, model: ModelConfig, world: World, cache: Path | None = None
) -> Source:
    """Open the checkpoint at a path or URL; every rank calls it.

    Args:
        load_path: A checkpoint of ours, a run folder (its newest one), a Hugging Face folder of
            Olmo or Olmo2, an unsharded checkpoint of OLMo's, or a model folder of ours.
        model: The shape that it has to have.
        world: The ranks.
        cache: Where remote files are kept, see `olmo_core.remote.fetch.cache_folder`.

    Raises:
        InputError: there is none, there are several, or it is not whole.
    """
    place = Place(load_path, cache_folder(cache))
    if place.has(layout.MANIFEST) or (Path(load_path) / layout.STATE).is_dir():
        return open_checkpoint(place, world, model)
    if place.has(huggingface.CONFIG):
        return huggingface.open_huggingface(place, model)
    if place.has(olmo.CONFIG) and (weights := place.first_of(olmo.WEIGHTS)):
        return _of_yaml(place, weights, model)
    steps: list[str] = []
    unlisted = ""
    try:
        if newest := _steps(place / layout.CHECKPOINTS):
            return open_newest(place, newest, world, model)
        steps = _steps(place)
    except InputError as error:
        unlisted = f"; as a run folder: {error}"
        if not place.is_remote:
            raise
    if steps:
        raise InputError(f"load_path {load_path}: {_many(place, steps)}")
    raise InputError(
        f"load_path {load_path}: no checkpoint there. Looked for one of ours "
        f"({layout.MANIFEST}, {layout.STATE}/), a Hugging Face folder ({huggingface.CONFIG}), an "
        f"unsharded checkpoint of OLMo's or a model folder of ours ({olmo.CONFIG} and "
        f"{' or '.join(olmo.WEIGHTS)}), and a run folder ({layout.CHECKPOINTS}/step…/){unlisted}"
    )


def _steps(place: Place) -> list[str]:
    """The names of the checkpoints in a folder, by step."""
    names = [name for name in place.names() if _STEP.fullmatch(name)]
    return sorted(names, key=lambda name: int(name.removeprefix("step")))


def _many(place: Place, steps: list[str]) -> str:
    """What to give in place of a folder of checkpoints."""
    shown = ", ".join(("…", *steps[-_SHOWN:]) if len(steps) > _SHOWN else steps)
    run = place.location.rstrip("/").removesuffix(layout.CHECKPOINTS).rstrip("/") or "."
    newest = f"; the newest is also found by {run}" if place.name == layout.CHECKPOINTS else ""
    return f"holds checkpoints and is none; give one of them ({shown}){newest}"


def _of_yaml(place: Place, weights: str, model: ModelConfig) -> Source:
    """OLMo's folder or ours: the names of the tensors tell."""
    path = place.file(weights)
    if path.suffix == ".safetensors" and "embeddings.weight" in open_safetensors(path):
        return OwnWeights(place.location, path, load(place.file(olmo.CONFIG)), model)
    return olmo.OlmoCheckpoint(place, model)
