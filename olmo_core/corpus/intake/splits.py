"""Which files of a Hugging Face dataset a subset and a split are, by the dataset's own layout.

The card's `configs` say so; where it has none, the names of folders and files do, by the rules of
the library `datasets` (https://huggingface.co/docs/hub/datasets-file-names-and-splits,
https://huggingface.co/docs/hub/datasets-manual-configuration).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, cast

import yaml

from olmo_core.corpus.intake.folders import fits
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import InputError

CARD = "README.md"  # what a dataset is, and none of its text
ALL = "train"  # the split of files that nothing tells apart
_NO_DATA = (  # unless a pattern names them
    CARD,
    "config.json",
    "dataset_dict.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dummy_data.zip",
)
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
_APART = "[-._ 0-9]"  # what a keyword stands between

Splits = Mapping[str, Sequence[str]]  # paths of each, sorted


def chosen_files(source: SourceConfig, names: Sequence[str], card: str, where: str) -> list[str]:
    """Return the paths of a source's subset and split, sorted.

    Args:
        source: Names a `subset`, a `split`, or both; without a subset, the dataset's default one is
            meant, and without a split, all of its splits.
        names: Paths of all files of the dataset.
        card: Its card; empty if it has none.
        where: Begins the message of every error.

    Raises:
        InputError: there is no such subset or split, or the card cannot be understood.
    """
    subsets = _subsets(card, where)
    splits = _splits(names, _subset(subsets, source.subset, where), where)
    if source.split and source.split not in splits:
        raise InputError(
            f"{where}: no split {source.split!r}; found {sorted(splits)}"
            + (f" in subset {source.subset!r}" if source.subset else "")
        )
    kept = splits.values() if not source.split else [splits[source.split]]
    if not (files := sorted({name for each in kept for name in each})):
        raise InputError(
            f"{where}: subset {source.subset!r}, split {source.split!r}: no file is there that its "
            "card names; name files with `data_files`"
        )
    return files


def _subsets(card: str, where: str) -> dict[str, dict[str, Any]]:
    """Return the subsets that a card describes, by their names."""
    lines = card.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---" or "---" not in lines[1:]:
        return {}
    try:
        described: Any = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        raise InputError(
            f"{where}: {CARD} begins with what is no YAML ({error}); name files with `data_files`"
        ) from None
    rows: Any = described.get("configs", []) if isinstance(described, dict) else []  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("config_name"), str)  # pyright: ignore[reportUnknownMemberType]
        for row in rows  # pyright: ignore[reportUnknownVariableType]
    ):
        raise InputError(
            f"{where}: {CARD}: `configs` is {str(rows)[:200]}; expected a list of mappings with a "  # pyright: ignore[reportUnknownArgumentType]
            "`config_name` each: name files with `data_files`"
        )
    return {row["config_name"]: row for row in cast(list[dict[str, Any]], rows)}


def _subset(subsets: Mapping[str, dict[str, Any]], name: str, where: str) -> dict[str, Any]:
    """Return what the card says of a subset, or of the default one; nothing if it says nothing."""
    if name:
        if name not in subsets:
            raise InputError(
                f"{where}: no subset {name!r}; its card names {sorted(subsets) or 'none'}"
            )
        return subsets[name]
    if len(subsets) < 2:
        return next(iter(subsets.values()), dict[str, Any]())
    default = [key for key, row in subsets.items() if row.get("default") or key == "default"]
    if len(default) != 1:
        raise InputError(
            f"{where}: several subsets, and {'no' if not default else 'more than one'} default "
            f"among them; name one of {sorted(subsets)} as `subset`"
        )
    return subsets[default[0]]


def _splits(names: Sequence[str], subset: Mapping[str, Any], where: str) -> Splits:
    """Return the files of each split of a subset."""
    folder = PurePosixPath(str(subset.get("data_dir") or "")).parts
    if subset.get("data_files") is None:
        inside = [name for name in names if PurePosixPath(name).parts[: len(folder)] == folder]
        return _laid_out(inside, folder)
    return {
        split: [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
        for split, patterns in _named(subset["data_files"], folder, where).items()
    }


def _named(given: Any, folder: tuple[str, ...], where: str) -> dict[str, list[tuple[str, ...]]]:
    """Return the patterns of each split, in parts, as `data_files` of a card gives them."""
    rows: list[Any] = list(given) if isinstance(given, list) else [given]  # pyright: ignore[reportUnknownArgumentType]
    if all(isinstance(row, str) for row in rows):
        rows = [{"split": ALL, "path": rows}]
    elif isinstance(given, dict):
        rows = [{"split": key, "path": value} for key, value in cast(Any, given).items()]
    named: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        split = row.get("split") if isinstance(row, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
        path: Any = row.get("path") if isinstance(row, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
        patterns: list[Any] = list(path) if isinstance(path, list) else [path]  # pyright: ignore[reportUnknownArgumentType]
        texts = all(isinstance(each, str) and "://" not in each for each in patterns)
        if split is None or split in named or not texts:
            raise InputError(
                f"{where}: {CARD}: `data_files` has {str(row)[:200]}; expected each split once, "  # pyright: ignore[reportUnknownArgumentType]
                "with paths of the dataset: name files with `data_files` of the source"
            )
        named[str(split)] = [(*folder, *PurePosixPath(each).parts) for each in patterns]  # pyright: ignore[reportUnknownArgumentType]
    return named


def _matches(name: str, pattern: tuple[str, ...]) -> bool:
    parts = PurePosixPath(name).parts
    if parts[-1] in _NO_DATA and parts[-1] != pattern[-1]:
        return False
    return _hidden(parts) == _hidden(pattern) and fits(parts, pattern)


def _hidden(parts: Iterable[str]) -> int:
    """Return how many parts of a path are hidden; a pattern must name as many."""
    return sum(part.startswith((".", "__")) for part in parts)


def _laid_out(names: Sequence[str], folder: tuple[str, ...]) -> Splits:
    """Return the files of each split by the names of folders and files below a folder."""
    below = {name: PurePosixPath(name).parts[len(folder) :] for name in names}
    data = {
        name: parts
        for name, parts in below.items()
        if parts[-1] not in _NO_DATA and not _hidden(parts)
    }
    splits: dict[str, list[str]] = {}
    for name, parts in data.items():
        if shard := _SHARD.fullmatch("/".join(parts)):
            splits.setdefault(shard[1], []).append(name)
    if splits:
        return splits
    # Folders decide where they say anything, else files.
    of_folder, of_file = f"(.*{_APART})?({{}})({_APART}.*)?", f"(.*{_APART})?({{}}){_APART}.*"
    for pattern, at in ((of_folder, slice(None, -1)), (of_file, slice(-1, None))):
        for split, keywords in _KEYWORDS.items():
            wanted = re.compile(pattern.format(keywords))
            found = [name for name in data if any(map(wanted.fullmatch, data[name][at]))]
            if found:
                splits[split] = found
        if splits:
            return splits
    return {ALL: list(data)} if data else {}
