"""Token files as dolma writes them, and the lists that name them, for tests."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

VOCABULARY, EOS = 900, 0
Rows = list[tuple[int, int, str, str, int]]


def write_tokens(
    path: Path, lengths: Sequence[int], *, rows: bool = True, dtype: str = "<u4", seed: int = 0
) -> np.ndarray:
    """Write a token file as dolma does: documents of these lengths, each with its EOS."""
    rng = np.random.default_rng([seed, len(lengths)])
    ids = rng.integers(EOS + 1, VOCABULARY, sum(lengths), dtype=np.uint32)
    ends = np.cumsum(lengths)
    ids[ends - 1] = EOS
    path.parent.mkdir(parents=True, exist_ok=True)
    ids.astype(dtype).tofile(path)
    if rows:
        starts = (ends - lengths).tolist()
        with gzip.open(path.with_suffix(".csv.gz"), "wt", newline="") as out:
            csv.writer(out).writerows(
                (start, end, f"{path.stem}, {number}", "s3://bucket/shard.json.gz", number + 1)
                for number, (start, end) in enumerate(zip(starts, ends.tolist(), strict=True))
            )
    return ids


def rows_of(path: Path) -> Rows:
    with gzip.open(path, "rt", newline="") as lines:
        return [(int(a), int(b), name, src, int(loc)) for a, b, name, src, loc in csv.reader(lines)]


def official(path: Path, urls: Sequence[str], dtype: str = "uint32") -> Path:
    """Write a training file with the shape of OLMo's official ones."""
    lines = "\n".join(f"    - {url}" for url in urls)
    path.write_text(
        "run_name: OLMo2-7B-stage1\nseed: 6198\n\nmodel:\n  d_model: 64\n\n"
        "device_eval_batch_size: ${device_train_microbatch_size}\n\n"
        "data:\n  pad_direction: right\n  # generate_doc_lengths: true\n  num_workers: 32\n"
        f"  drop_last: true\n  memmap_dtype: {dtype}\n  paths:\n"
        f"    # SOURCE: dclm (1.2BT)\n{lines}\n"
    )
    return path
