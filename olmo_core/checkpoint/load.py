"""What `load_path` means: whatever format lies there, here or elsewhere."""

from pathlib import Path

from olmo_core import environment
from olmo_core.checkpoint import layout
from olmo_core.checkpoint import olmo_source as olmo
from olmo_core.checkpoint.own import open_checkpoint
from olmo_core.checkpoint.source import Place, Source
from olmo_core.checkpoint.tensor_file import open_safetensors
from olmo_core.checkpoint.weights_source import HUGGINGFACE, open_huggingface, open_model_folder
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.parallel.world import World

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
        cache: Where remote files are kept; None: `OLMO_CACHE`, then `~/.cache/olmo`.

    Raises:
        InputError: there is none, there are several, or it is not whole.
    """
    place = Place(load_path, cache or environment.cache())
    if place.has(layout.MANIFEST) or (Path(load_path) / layout.STATE).is_dir():
        return open_checkpoint(place, world, model)
    if place.has(HUGGINGFACE):
        return open_huggingface(place, model)
    if place.has(olmo.CONFIG) and (weights := place.first_of(olmo.WEIGHTS)):
        path = place.file(weights)  # the names of the tensors tell whether it is OLMo's or ours
        if path.suffix == ".safetensors" and "embeddings.weight" in open_safetensors(path):
            return open_model_folder(place, path, model)
        return olmo.open_olmo(place, model)
    steps: list[str] = []
    unlisted = ""
    try:
        if newest := layout.step_names((place / layout.CHECKPOINTS).names()):
            # where it is damaged, nothing else is taken for it
            return open_checkpoint(place / layout.CHECKPOINTS / newest[-1], world, model)
        steps = layout.step_names(place.names())
    except InputError as error:
        unlisted = f"; as a run folder: {error}"
        if not place.is_remote:
            raise
    if steps:
        raise InputError(f"load_path {load_path}: {_many(place, steps)}")
    raise InputError(
        f"load_path {load_path}: no checkpoint there. Looked for one of ours "
        f"({layout.MANIFEST}, {layout.STATE}/), a Hugging Face folder ({HUGGINGFACE}), an "
        f"unsharded checkpoint of OLMo's or a model folder of ours ({olmo.CONFIG} and "
        f"{' or '.join(olmo.WEIGHTS)}), and a run folder ({layout.CHECKPOINTS}/step…/){unlisted}"
    )


def _many(place: Place, steps: list[str]) -> str:
    """Say what to give in place of a folder of checkpoints."""
    shown = ", ".join(("…", *steps[-_SHOWN:]) if len(steps) > _SHOWN else steps)
    run = place.location.rstrip("/").removesuffix(layout.CHECKPOINTS).rstrip("/") or "."
    newest = f"; the newest is also found by {run}" if place.name == layout.CHECKPOINTS else ""
    return f"holds checkpoints and is none; give one of them ({shown}){newest}"
