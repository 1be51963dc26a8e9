"""A shard without the documents that are held out."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import text_facts
from olmo_core.corpus.rows import packed, parse_row, read_lines


def write_remaining(
    path: Path, held: Mapping[int, tuple[str, int]], out: Path, *, documents: bool
) -> list[dict[str, Any]]:
    """Write the lines of a shard that stay, to the letter.

    Args:
        path: The shard.
        held: Line -> role and cluster, of the documents to leave out.
        out: Where to write.
        documents: Whether its rows are documents, not attributes of them.

    Returns:
        `id`, `cluster`, `role` and `loc`, the line, of each document left out, with what an index
        tells of its text; of scored ones `document`, whole. Of attributes nothing.
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
            if not documents:
                continue
            document = parse_row(line, f"{path}:{number}")
            role, cluster = held[number]
            row = {"id": document["id"], "cluster": cluster, "role": role, "loc": number}
            row |= text_facts(document["text"], document.get("metadata") or {})
            found.append(row | ({"document": document} if role == "scored" else {}))
    return found
