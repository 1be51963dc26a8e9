"""What a checkpoint is on the disk, and whether one is whole. Free of torch.

`<run>/checkpoints/step{N}/` holds `model_and_optim/` (torch's distributed format), `train.json`
(where the run stood) and `manifest.json` (size and SHA-256 of every other file), written last.
A checkpoint is built in `step{N}.tmp` and renamed when whole; readers believe the manifest alone.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.errors import InputError
from olmo_core.files import fsync, read_json, sha256_file, write_json

SCHEMA_VERSION = 1
CHECKPOINTS = "checkpoints"  # in the run folder
STATE, TRAIN, MANIFEST = "model_and_optim", "train.json", "manifest.json"
TEMPORARY, CORRUPT = ".tmp", ".corrupt"
_MADE_BESIDE = ("metrics.jsonl", "model", "result.json", "wandb")
_STEP = re.compile(r"step(\d+)")  # the name of a checkpoint's folder


class CorruptCheckpoint(InputError):
    """A checkpoint whose files are not what its manifest says; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """One `step{N}` folder, trusted or not."""

    path: Path

    @property
    def step(self) -> int:
        """Return the step in the folder's name, 0 where it has none."""
        match = _STEP.fullmatch(self.path.name)
        return int(match[1]) if match else 0

    def read_train(self) -> dict[str, Any]:
        """Return where the run stood."""
        return read_json(self.path / TRAIN)

    def read_manifest(self) -> dict[str, dict[str, Any]]:
        """Return the checkpoint's files: name -> bytes and SHA-256.

        Raises:
            CorruptCheckpoint: there is no manifest, or it is none.
            InputError: it names a file that lies elsewhere.
        """
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            raise CorruptCheckpoint(
                f"{manifest}: missing: never finished, or no checkpoint of ours"
            )
        try:
            content = read_json(manifest)
            version, files = content["schema_version"], dict(content["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpoint(f"{manifest}: not a manifest ({error})") from None
        if version != SCHEMA_VERSION:
            raise CorruptCheckpoint(f"{manifest}: schema_version {version}, not {SCHEMA_VERSION}")
        for name in files:
            if not {"", ".", ".."}.isdisjoint(name.split("/")):
                raise InputError(f"{manifest}: {name!r} is no file below the checkpoint's folder")
        return files

    def verify(self, *, share: tuple[int, int] = (0, 1)) -> None:
        """Read every file and compare it with the manifest.

        Args:
            share: (i, n): only every n-th file from the i-th on.

        Raises:
            CorruptCheckpoint: the manifest or a file is missing, truncated or changed.
        """
        first, stride = share
        for name, expected in sorted(self.read_manifest().items())[first::stride]:
            path = self.path / name
            if not path.is_file():
                raise CorruptCheckpoint(f"{path}: missing")
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise CorruptCheckpoint(f"{path}: {size} bytes, not {expected['bytes']}")
            if sha256_file(path) != expected["sha256"]:
                raise CorruptCheckpoint(f"{path}: its content has changed (SHA-256)")


def step_names(names: Iterable[str]) -> list[str]:
    """Return those of `names` that are of checkpoints, by step."""
    found = [name for name in names if _STEP.fullmatch(name)]
    return sorted(found, key=lambda name: int(name.removeprefix("step")))


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """Return the run's finished-looking checkpoints, by step; nothing is verified."""
    folder = run / CHECKPOINTS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [Checkpoint(folder / name) for name in step_names(names)]


def checkpoint_at(path: Path) -> Checkpoint | None:
    """Return the checkpoint that `path` is, or the newest of a run folder; nothing is verified."""
    found = [Checkpoint(path)] if (path / TRAIN).is_file() else list_checkpoints(path)
    return found[-1] if found else None


def write_manifest(folder: Path, files: dict[str, Any], order: dict[str, Any], step: int) -> None:
    """Write the file by which a checkpoint is whole."""
    content = {"schema_version": SCHEMA_VERSION, "step": step, "order": order}
    write_json(folder / MANIFEST, {**content, "files": dict(sorted(files.items()))})


def temporary(target: Path) -> Path:
    """Return the name under which a checkpoint is made, or deleted."""
    return target.with_name(target.name + TEMPORARY)


def publish(whole: Path, target: Path) -> None:
    """Give a whole checkpoint its name; a corrupt one of that name is kept aside, not deleted."""
    if target.exists():
        aside = target.with_name(target.name + CORRUPT)
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    fsync(whole)
    whole.rename(target)
    fsync(target.parent)


def set_aside(run: Path) -> Path | None:
    """Move what a run has made so far into a folder `replaced-{n}` of its own; None: nothing."""
    made = [run / name for name in (CHECKPOINTS, *_MADE_BESIDE) if (run / name).exists()]
    if not made:
        return None
    number = 1 + sum(1 for _ in run.glob("replaced-*"))
    aside = run / f"replaced-{number}"
    aside.mkdir()
    for path in made:
        path.rename(aside / path.name)
    return aside


def remove_unfinished(run: Path) -> None:
    """Delete what a killed attempt had begun to write."""
    for entry in (run / CHECKPOINTS).glob(f"step*{TEMPORARY}"):
        shutil.rmtree(entry)
