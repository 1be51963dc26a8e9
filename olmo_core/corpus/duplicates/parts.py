"""A shard without the documents that are held out."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.corpus.rows import packed, parse_row, read_lines


def write_remaining(
    path: Path, held: Mapping[int, tuple[str, int]], out: Path
) -> list[dict[str, Any]]:
    """Write the lines of a shard that stay, to the letter.

    Args:
        path: The shard.
        held: Line -> role and cluster, of the documents to leave out.
        out: Where to write.

    Returns:
        `id`, `role` and `cluster` of each document left out; of scored ones `document`, whole.
    """
    if not held:
        shutil.copyfile(path, out)
        return []
    found: list[dict[str, Any]] = []
    with packed(out) as remaining:
        for number, line in read_lines(path):
            if number not in held:
                remaining.write(line.rstrip(b"\n") + b"\n")
                continue
            document = parse_row(line, f"{path}:{number}")
            role, cluster = held[number]
            row = {"id": document["id"], "role": role, "cluster": cluster}
            found.append(row | ({"document": document} if role == "scored" else {}))
    return found
