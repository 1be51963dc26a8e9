"""What a run starts from: its own newest whole checkpoint, or whatever `load_path` names."""

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from olmo_core import environment
from olmo_core.checkpoint import layout
from olmo_core.checkpoint import olmo_source as olmo
from olmo_core.checkpoint.layout import Checkpoint, CorruptCheckpoint
from olmo_core.checkpoint.source import Place, Position, Source, require_same_model
from olmo_core.checkpoint.tensor_file import open_safetensors
from olmo_core.checkpoint.weights_source import HUGGINGFACE, open_huggingface, open_model_folder
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.files import sha256_file
from olmo_core.parallel.world import World
from olmo_core.run.folder import RunFolder

log = logging.getLogger("olmo")

_SHOWN = 8  # checkpoints that an error lists


def verify(checkpoint: Checkpoint, world: World) -> None:
    """Compare every file with the manifest; each rank reads its share, all learn the same.

    Raises:
        CorruptCheckpoint: the manifest or a file is missing, truncated or changed.
    """
    problem: str | None = None
    try:
        checkpoint.verify(share=(world.rank, world.size))
    except CorruptCheckpoint as error:
        problem = str(error)
    for found in world.gather(problem):
        if found is not None:
            raise CorruptCheckpoint(found)


def find_latest(run: Path, world: World) -> Checkpoint | None:
    """Return a run's own newest whole checkpoint, to resume from; None where it has none at all.

    A corrupt one is named and passed over.

    Raises:
        InputError: there are checkpoints, and not one of them is whole.
    """
    whole, problems = _newest_whole(layout.list_checkpoints(run), world)
    if problems and whole is None:
        raise InputError(
            f"{run / layout.CHECKPOINTS}: no checkpoint is whole ({'; '.join(problems)}); "
            "move the folder aside to begin again"
        )
    if problems and whole is not None:
        log.error("using the previous whole checkpoint: %s", whole.path)
    return whole


def _newest_whole(
    checkpoints: Iterable[Checkpoint], world: World
) -> tuple[Checkpoint | None, list[str]]:
    """Return the last whole one, and what is wrong with those after it."""
    problems: list[str] = []
    for checkpoint in reversed([*checkpoints]):
        try:
            verify(checkpoint, world)
        except CorruptCheckpoint as error:
            log.error("refused checkpoint step%d: %s", checkpoint.step, error)
            problems.append(str(error))
        else:
            return checkpoint, problems
    return None, problems


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
    place = Place(load_path, environment.cache(cache))
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


def open_checkpoint(place: Place, world: World, model: ModelConfig) -> Source:
    """Open one checkpoint, verified; from elsewhere it is fetched by its manifest.

    Raises:
        InputError: it is not there, not whole, or of another model than the run's.
    """
    try:
        if place.is_remote:
            # the manifest first: it names the files and their digests
            checkpoint = Checkpoint(place.file(layout.MANIFEST).parent)
            for name, entry in checkpoint.read_manifest().items():
                place.file(name, entry["sha256"])
        else:
            checkpoint = Checkpoint(Path(place.location))
            verify(checkpoint, world)
    except CorruptCheckpoint as error:
        raise InputError(f"load_path: {error}{_whole_one_before(place, world)}") from None
    train = checkpoint.read_train()
    require_same_model(f"{place}/{layout.TRAIN}", train, model)
    return Source(
        location=place.location,
        identify=partial(_identify, checkpoint),
        load=partial(load_state, checkpoint),
        position=lambda: Position(step=train["step"], tokens=train["tokens"], order=train["order"]),
    )


def _identify(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return its manifest's digest; for the last one of a finished run the weights' too."""
    path = checkpoint.path
    result = RunFolder(path.parent.parent)
    facts = result.read_result()["report"]["data"] if result.finished else {}
    final = facts.get("checkpoint") == f"{path.parent.name}/{path.name}"
    return {
        "step": checkpoint.step,
        "manifest_sha256": sha256_file(path / layout.MANIFEST),
        "model_sha256": facts.get("model_sha256") if final else None,
    }


def _whole_one_before(damaged: Place, world: World) -> str:
    """Say what to point `load_path` at instead of a damaged checkpoint."""
    if damaged.is_remote:
        return ""
    checkpoint = Checkpoint(Path(damaged.location))
    earlier = layout.list_checkpoints(checkpoint.path.parent.parent)
    whole, _ = _newest_whole((one for one in earlier if one.step < checkpoint.step), world)
    return f"; the whole one before it is {whole.path}" if whole else "; none before it is whole"


def load_state(checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    """Read a verified checkpoint into a state (`olmo_core.checkpoint.state`); all ranks call it.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape.
    """
    from olmo_core.checkpoint.index import read_into  # 1.5 s, and only a resumed run needs it

    read_into(state, checkpoint.path / layout.STATE)
