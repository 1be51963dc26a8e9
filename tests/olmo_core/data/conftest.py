"""Token files made on the spot: known ids in known places."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

EOS = 0
VOCAB_SIZE = 1000

WriteTokens = Callable[..., Path]


@pytest.fixture
def write_tokens(tmp_path: Path) -> WriteTokens:
    """A function that writes documents (lists of ids, no EOS) as a token file with rows, header."""

    def write(name: str, documents: Sequence[Sequence[int]], **changes: object) -> Path:
        path = tmp_path / "tokens" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = [number for document in documents for number in [*document, EOS]]
        np.asarray(ids, dtype="<u2").tofile(path)
        rows, start = [], 0
        for number, document in enumerate(documents):
            end = start + len(document) + 1
            rows.append(
                f"{start},{end},{path.parent.name}/{path.stem}/{number},src.gz,{number + 1}"
            )
            start = end
        with gzip.open(path.with_suffix(".csv.gz"), "wt") as out:
            out.write("\n".join(rows) + "\n")
        header = {
            "schema_version": 1,
            "dtype": "uint16",
            "tokens": len(ids),
            "documents": len(documents),
            "vocab_size": VOCAB_SIZE,
            "tokenizer_sha256": "ab" * 32,
            "eos_token_id": EOS,
        }
        path.with_suffix(".json").write_text(json.dumps(header | changes))
        return path

    return write
