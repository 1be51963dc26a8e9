"""Documents of an earlier corpus and of this one, and the jobs that compare them."""

import gzip
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from olmo_core.files import write_json

COPIES = ("text", "near", "url", "id", "earlier")
LONG = "A line that is long enough to be a paragraph that counts, number {}."
NOTHING_HELD_OUT = {"share": 0}
NO_PAIR_IS_MISSED = {"permutations": 128, "bands": 64}


def words(seed: int, changed: int = 0, count: int = 60) -> str:
    """Sixty words; of those with the same seed all but the first are the same."""
    found = [f"w{random.Random(f'{seed} {n}').randrange(10**6)}" for n in range(count)]
    return " ".join([f"c{changed}", *found[1:]] if changed else found)


def write_packed(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines, packed as the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(content)
    else:
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def row(name: str, text: str, url: str = "", source: str = "a") -> dict[str, Any]:
    return {"id": name, "text": text, "source": source, "metadata": {"url": url} if url else {}}


def run(corpus: Any, *folders: Path, **config: Any) -> dict[str, dict[str, Any]]:
    """Run the three jobs on what `raw` has left; return their reports."""
    earlier = {"earlier": [str(folder) for folder in folders]}
    configs = {
        "near_duplicates": {**earlier, **NO_PAIR_IS_MISSED},
        "held_out": config.pop("held_out", NOTHING_HELD_OUT),
        "deduplicated": earlier,
    }
    return {name: corpus.run(name, each, **config)["report"] for name, each in configs.items()}


def marks(corpus: Any) -> dict[str, tuple[set[str], float]]:
    """Document id -> what it is a copy by, and the share of it in repeated paragraphs."""
    return {
        name: (
            {key for key in COPIES if found[f"duplicates__{key}"]},
            found["duplicates__paragraphs"][0][2],
        )
        for name, found in corpus.attributes("deduplicated", "duplicates").items()
    }


def write_raw(corpus: Any, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for path, documents in rows.items():
        corpus.write_lines(corpus.folder("raw") / f"{path}.jsonl.gz", documents)
    write_json(corpus.folder("raw") / "result.json", {"digest": "of these texts"})
