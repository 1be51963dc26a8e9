"""What a checkpoint is on the disk, and whether one is whole. Free of torch.

`<run>/checkpoints/step{N}/` holds `model_and_optim/` (torch's distributed format), `train.json`
(where the run stood) and `manifest.json` (size and SHA-256 of every other file), written last.
A checkpoint is built in `step{N}.tmp` and renamed when whole; readers believe the manifest alone.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.files import fsync, read_json, sha256_file, write_json

SCHEMA_VERSION = 1
CHECKPOINTS = "checkpoints"  # in the run folder
STATE, TRAIN, MANIFEST = "model_and_optim", "train.json", "manifest.json"
TEMPORARY, CORRUPT = ".tmp", ".corrupt"
_MADE_BESIDE = ("metrics.jsonl", "model", "result.json", "wandb")
STEP = re.compile(r"step(\d+)")  # the name of a checkpoint's folder


class CorruptCheckpoint(ValueError):
    """A checkpoint whose files are not what its manifest says; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """One `step{N}` folder, trusted or not."""

    path: Path
    step: int

    @classmethod
    def at(cls, path: Path) -> "Checkpoint":
        """The one in a folder; its step is that of the folder's name, 0 where it has none."""
        match = STEP.fullmatch(path.name)
        return cls(path, int(match[1]) if match else 0)

    def read_train(self) -> dict[str, Any]:
        """Where the run stood."""
        return read_json(self.path / TRAIN)

    def read_manifest(self) -> dict[str, dict[str, Any]]:
        """The checkpoint's files: name -> bytes and SHA-256.

        Raises:
            CorruptCheckpoint: there is no manifest, or it is none.
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


def checkpoints_folder(run: Path) -> Path:
    """Where a run folder keeps its checkpoints."""
    return run / CHECKPOINTS


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """The run's finished-looking checkpoints, by step; nothing is verified."""
    folder = checkpoints_folder(run)
    if not folder.is_dir():
        return []
    steps = ((entry, STEP.fullmatch(entry.name)) for entry in folder.iterdir())
    found = [Checkpoint(entry, int(match[1])) for entry, match in steps if match]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def checkpoint_at(path: Path) -> Checkpoint | None:
    """Return the checkpoint that `path` is, or the newest of a run folder; nothing is verified."""
    if (path / TRAIN).is_file():
        return Checkpoint.at(path)
    return max(list_checkpoints(path), key=lambda checkpoint: checkpoint.step, default=None)


def describe_files(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """The manifest's entries of these files, relative to `folder`."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in names
    }


def write_manifest(folder: Path, files: dict[str, Any], order: dict[str, Any], step: int) -> None:
    """Write the file by which a checkpoint is whole."""
    content = {"schema_version": SCHEMA_VERSION, "step": step, "order": order}
    write_json(folder / MANIFEST, {**content, "files": dict(sorted(files.items()))})


def publish(temporary: Path, target: Path) -> None:
    """Give a whole checkpoint its name; a corrupt one of that name is kept aside, not deleted."""
    if target.exists():
        aside = target.with_name(target.name + CORRUPT)
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
    fsync(temporary)
    temporary.rename(target)
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
    folder = checkpoints_folder(run)
    if folder.is_dir():
        for entry in folder.glob(f"step*{TEMPORARY}"):
            shutil.rmtree(entry)
