"""Roots of results as jobs leave them, without jobs: what `olmo gc` is tried on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder

LONG_AGO = 1_600_000_000.0


def version(number: int, repeat: int = 1) -> str:
    return f"{number:012x}" + (f".{repeat}" if repeat > 1 else "")


@dataclass
class Made:
    """A root under construction; `inputs` is what a test compares with, and no code reads it."""

    root: Path
    inputs: dict[str, set[str]] = field(default_factory=dict)
    finished: dict[str, float | None] = field(default_factory=dict)

    def run(
        self,
        name: str,
        inputs: Sequence[str] = (),
        *,
        ended: float | None = LONG_AGO,
        touched: float = LONG_AGO,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        checkpoints: Sequence[int] = (),
        digest: str = "",
    ) -> RunFolder:
        """Leave a run; without `ended` its job did not finish."""
        folder = RunFolder(self.root / name)
        recipe, asset, *partition, number = name.split("/")
        of = {f"input{number}": RunFolder(self.root / each) for number, each in enumerate(inputs)}
        about = {
            "schema_version": SCHEMA_VERSION,
            "recipe": recipe,
            "asset": asset,
            "partition": partition[0] if partition else None,
            "fingerprint": number[:12] * 5,
            "inputs": {
                key: {
                    "fingerprint": run.path.name[:12] * 5,
                    "digest": "",
                    "root": "own",
                    "path": str(run.path.relative_to(self.root)),
                }
                for key, run in of.items()
            },
        }
        folder.log.mkdir(parents=True)
        (folder.log / "submission1.log").write_text(name)
        folder.config.write_text(yaml.safe_dump({"save": str(folder.path), **(config or {})}))
        write_json(folder.launch, about)
        content = {"data": name.encode() * 100} if files is None else files
        for file, data in content.items():
            (folder.path / file).write_bytes(data)
        for step in checkpoints:
            manifest = folder.path / f"checkpoints/step{step}/manifest.json"
            manifest.parent.mkdir(parents=True)
            manifest.write_text("{}")
        if ended is not None:
            result = {"digest": digest or name, "finished": ended}
            described = {file: dict[str, Any]() for file in content}
            write_json(folder.result, {**about, **result, "files": described})
        for path in (*folder.path.rglob("*"), folder.path):
            os.utime(path, (touched, touched))
        self.inputs[name], self.finished[name] = set(inputs), ended
        return folder

    def reachable(self, roots: set[str]) -> set[str]:
        """What the roots were made from, and they: by looking until nothing is new."""
        found = set(roots)
        while more := {each for name in found for each in self.inputs[name]} - found:
            found |= more
        return found

    def there(self) -> set[str]:
        return {name for name in self.inputs if (self.root / name).is_dir()}

    def stamps(self, names: set[str]) -> dict[str, bytes]:
        """The bytes of every file of these runs."""
        paths = [path for name in names for path in (self.root / name).rglob("*")]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}
