"""How much text the sources of a recipe hold, before they are read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olmo_core.config.paths import expanded
from olmo_core.forecast.figures import Figure
from olmo_core.forecast.like import different_keys
from olmo_core.forecast.past import PastRun

COMPRESSED = (".gz", ".zst", ".parquet")
EXPANSION = 4.0  # bytes of text per compressed byte: gzip leaves 0.2 to 0.3 (docs/corpus.md)


def source_text(
    config: Mapping[str, Any], runs: Sequence[PastRun], assumed: Figure | None
) -> Figure | None:
    """Return the bytes of text that `raw` will hold; None where nothing says it.

    Args:
        config: The section `raw`.
        runs: Finished runs of `raw`: one of the same sources has counted it.
        assumed: How much there is at least, where some source does not say it.
    """
    for run in runs:
        if not different_keys(config, run.config):
            return Figure(value=float(run.numbers["text_bytes"]), basis=f"measured in {run.name}")
    sizes = {source["name"]: _size(source) for source in config["sources"]}
    known = sum(size for size in sizes.values() if size is not None)
    silent = [name for name, size in sizes.items() if size is None]
    if silent and assumed and assumed.value > known:
        return assumed
    if not known:
        return None
    without = f", without {', '.join(silent)}, of which nothing is known" if silent else ""
    return Figure(value=known, basis=f"at most, by max_bytes and the sizes of files{without}")


def _size(source: Mapping[str, Any]) -> float | None:
    """Return the most text that a source holds, by its files or its limit; None: nothing says."""
    limit, files = source.get("max_bytes"), _files_size(str(source.get("root") or ""))
    if limit is None:
        return files
    return float(limit) if files is None else min(float(limit), files)


def _files_size(root: str) -> float | None:
    """Return the bytes of text below a folder, compressed files expanded; None if none is here."""
    if not root:
        return None
    folder, _ = expanded(root)
    if not folder.is_dir():  # nor where a variable of it is not set
        return None
    size = 0.0
    for parent, _, names in os.walk(folder):
        for name in names:
            factor = EXPANSION if name.endswith(COMPRESSED) else 1.0
            size += factor * (Path(parent) / name).stat().st_size
    return size
