"""Keep scores by everything that decides them, so that only changes are evaluated again."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.files import read_json, write_json


def cached_scores(
    folder: Path,
    keys: Sequence[Mapping[str, Any]],
    score: Callable[[Sequence[int]], Iterator[Any]],
) -> tuple[list[Any], int]:
    """Return the score of each key, kept from an earlier evaluation or made and kept now.

    A key names the model's weights, the data, the code and the versions. An entry is therefore
    never out of date and never replaced. The folder may be deleted at any time.

    Args:
        folder: One JSON file per score, named by the digest of its key.
        keys: What decides each score.
        score: Takes the numbers of the scores that are missing and yields them in this order.

    Returns:
        The scores, and how many of them were not made now.
    """
    texts = [json.dumps(key, sort_keys=True) for key in keys]
    names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    paths = [folder / name[:2] / f"{name}.json" for name in names]
    scores = {path: read_json(path)["value"] for path in set(paths) if path.exists()}
    # models of equal weights have equal keys and are scored once
    missing = [n for n, path in enumerate(paths) if path not in scores and path not in paths[:n]]
    for number, value in zip(missing, score(missing), strict=True):
        write_json(paths[number], {"key": dict(keys[number]), "value": value})
        scores[paths[number]] = value
    return [scores[path] for path in paths], len(keys) - len(missing)
