"""Where the weights of a model lie in a form that can be loaded, by the name a person gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.ancestors import read_ancestor
from assets.lineage.sides import MODEL, Side, find_side
from olmo_core.checkpoint.layout import CHECKPOINTS
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.folder import RunFolder

HUGGING_FACE = "config.json"  # of a folder in its form


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """Weights, and the tokenizer's run folder where they are in a form of ours."""

    label: str
    folder: Path
    tokenizer: Path | None


def find_loadable(name: str, root: Path) -> Loadable:
    """Return the weights that a name on the command line means; an export of them, if there is one.

    Args:
        name: `demo/soup`, `demo/stage1@step300`, either with a version, or a folder: of a run, of a
            checkpoint, or in Hugging Face's form.
        root: Of results.

    Raises:
        ConfigError: there is nothing of that name, or it is no model.
        InputError: it has not finished, or its tokenizer is gone.
    """
    side = find_side(name, root)
    run = side.run
    if run is None:
        found = [each.weights for each in side.models.values()]
        if side.recipe is not None or not found or found[0] is None:
            raise ConfigError(f"{name}: a recipe is no model; name one of its own, as {name}/soup")
        return _of_folder(side, found[0])
    if side.step is not None:
        checkpoint = run.path / CHECKPOINTS / f"step{side.step}"
        return Loadable(label=side.name, folder=checkpoint, tokenizer=_tokenizer(side))
    if (run.path / "exports").is_dir():
        there = ", ".join(sorted(side.models))
        if len(side.models) != 1:
            raise ConfigError(f"{name}: holds several models ({there}); name one of their runs")
        [model] = side.models.values()
        assert model.weights is not None
        return _of_folder(side, model.weights)
    for exported in _exports(run):
        return Loadable(label=side.name, folder=exported, tokenizer=None)
    if not (run.path / MODEL).is_dir():
        why = "makes no model" if run.finished else "has not finished; a checkpoint of it will do"
        raise InputError(f"{run.path}: {why}")
    return Loadable(label=side.name, folder=run.path / MODEL, tokenizer=_tokenizer(side))


def _of_folder(side: Side, folder: Path) -> Loadable:
    if not (folder / HUGGING_FACE).is_file():
        raise ConfigError(f"{folder}: no {HUGGING_FACE}: not in Hugging Face's form")
    return Loadable(label=side.name, folder=folder, tokenizer=None)


def _tokenizer(side: Side) -> Path:
    run = side.runs.get("tokenizer")
    if run is None:
        raise InputError(f"{side.name}: the run folder of its tokenizer is gone")
    return run.path


def _exports(run: RunFolder) -> Iterator[Path]:
    """Yield the exported folders of a finished run's weights, the newest first."""
    exports = run.path.parents[1] / "export"
    made = [RunFolder(path) for path in exports.glob("*") if RunFolder(path).finished]
    for export in sorted(made, key=lambda one: one.read_result()["finished"], reverse=True):
        found = read_ancestor(export)
        assert found is not None
        names = {each.name for each in found.inputs if each.folder == run.path}
        for model in found.data["models"]:
            if model["model"] in names:
                yield export.path / model["path"]
