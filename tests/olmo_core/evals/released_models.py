"""A model of somebody else's, in a folder and in the hub's cache, both made by hand."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

COMMIT = "8f" * 20


def write_folder(folder: Path, exported: Path, **config: Any) -> Path:
    """An exported model's files as somebody else's; `config` is changed in its config.json."""
    shutil.copytree(exported, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **config}))
    return folder


def write_cache(cache: Path, folder: Path, hub: str, *, branch: str = "main") -> Path:
    """The hub's cache of a repository with these files: blobs, a snapshot of links, a ref."""
    repository = cache / f"models--{hub.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / branch).write_text(COMMIT)
    for path in folder.iterdir():
        content = path.read_bytes()
        # As the hub does: SHA-256 of large files, git's SHA-1 of the others.
        large = path.suffix == ".safetensors"
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = hashlib.sha256(content).hexdigest() if large else git
        (repository / "blobs" / blob).write_bytes(content)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob)
    return snapshot
