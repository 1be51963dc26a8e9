"""The hub's own layout on disk, so that `from_pretrained(NAME, revision=…)` works offline.

`<hub>/models--ORG--NAME/snapshots/<id>/<files>` and `refs/<revision>` holding `<id>`; used with
HF_HOME (its `hub` folder), HF_HUB_CACHE or `cache_dir=`. Files are hard links to those of the
export.
"""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

from olmo_core.files import sha256_file, write_atomic

UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def token_label(tokens: int) -> str:
    """Return a number of tokens, rounded up in the largest unit that it fills: 4001B, 12M, 640K.

    AI2 names revisions like this, always in B; small runs would all be called 1B that way.
    """
    for size, unit in UNITS:
        if tokens >= size:
            return f"{math.ceil(tokens / size)}{unit}"
    return str(tokens)


def revision_name(model: str, step: int | None, tokens: int | None, *, final: bool = False) -> str:
    """Return a model's revision: AI2's `stage1-step{N}-tokens{T}B`; `main` for the final model.

    `stage2_ingredient3` becomes `stage2-ingredient3-step{N}-tokens{T}`.
    """
    if final:
        return "main"
    name = model.replace("_", "-")
    if step is not None:
        name += f"-step{step}"
    return name if tokens is None else f"{name}-tokens{token_label(tokens)}"


def link_revisions(hub: Path, repository: str, folders: Mapping[str, Path]) -> None:
    """Lay out `repository` below `hub`, with one revision per export folder.

    Args:
        hub: The cache folder.
        repository: ORGANISATION/NAME.
        folders: Revision -> folder of files.
    """
    home = hub / f"models--{repository.replace('/', '--')}"
    for revision, folder in folders.items():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in files)
        commit = hashlib.sha256(lines.encode()).hexdigest()[:40]  # as long as a git commit
        snapshot = home / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in files:
            if not (snapshot / path.name).exists():
                os.link(path, snapshot / path.name)
        write_atomic(home / "refs" / revision, commit)
