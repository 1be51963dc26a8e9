"""Keep scores by everything that decides them, so that only changes are evaluated again."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.files import read_json, write_json

DAMAGED = ".damaged"  # suffix of an entry that was set aside

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NotScored:
    """What stands in place of a score that could not be made; it is not kept."""

    why: str


def cached_scores(
    folder: Path,
    keys: Sequence[Mapping[str, Any]],
    score: Callable[[Sequence[int]], Iterator[Any]],
) -> tuple[list[Any], int]:
    """Return the score of each key, kept from an earlier evaluation or made and kept now.

    A key names the model's weights, the data, the code and the versions. An entry is therefore
    never out of date. A damaged one is set aside, named in the log, and scored again. The folder
    may be deleted at any time.

    Args:
        folder: One JSON file per score, named by the digest of its key.
        keys: What decides each score.
        score: Takes the numbers of the scores that are missing and yields them in this order.

    Returns:
        The scores, `NotScored` among them, and how many of them were not made now.
    """
    texts = [json.dumps(key, sort_keys=True) for key in keys]
    names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    paths = [folder / name[:2] / f"{name}.json" for name in names]
    known = {path: _read(path, text) for path, text in dict(zip(paths, texts, strict=True)).items()}
    scores = {path: entry["value"] for path, entry in known.items() if entry is not None}
    # models of equal weights have equal keys and are scored once
    missing = [n for n, path in enumerate(paths) if path not in scores and path not in paths[:n]]
    for number, value in zip(missing, score(missing), strict=True):
        if not isinstance(value, NotScored):
            write_json(paths[number], {"key": dict(keys[number]), "value": value})
        scores[paths[number]] = value
    return [scores[path] for path in paths], len(keys) - len(missing)


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """Return an entry; None if there is none, or if what is there is not the entry of this key."""
    try:
        entry = read_json(path)
        if json.dumps(entry["key"], sort_keys=True) == key and "value" in entry:
            return entry
        damage = f"{path}: of another key, or without a value"
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        damage = str(error) if str(path) in str(error) else f"{path}: not an entry: {error!r}"
    aside = path.with_name(path.name + DAMAGED)
    path.replace(aside)
    log.warning("%s; set aside as %s and scored again", damage, aside.name)
    return None
