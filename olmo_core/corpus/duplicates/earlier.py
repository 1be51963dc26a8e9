"""Earlier corpora: their documents stand before all of this one, and none of them is its own.

Their files are read where they lie. They have the numbers of shards before those of the documents,
so that what repeats one of them is a copy like any other, of the document with the least place.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from olmo_core.config.paths import expanded
from olmo_core.corpus.document import Document, read_documents
from olmo_core.corpus.intake.folders import Found, list_folder
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, sha256_file, write_json

RECORD_FILE = "earlier.json"  # of assets near_duplicates and held_out: which files were read
NOTHING_READ = {"files": 0, "sha256": ""}
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")  # of Dolma documents


@dataclass(frozen=True, kw_only=True)
class EarlierCorpora:
    """The files of earlier corpora, as they lie now."""

    folders: tuple[str, ...]  # as the recipe names them
    found: tuple[Found, ...]  # the files of each

    @classmethod
    def of(cls, folders: Sequence[str]) -> "EarlierCorpora":
        """List the files below folders, by the rules by which `raw` lists those of a source.

        Raises:
            ConfigError: a folder is missing, relative, or holds no JSON lines.
            InputError: a linked folder lies in itself, or a file's name is not UTF-8.
        """
        return cls(folders=tuple(folders), found=tuple(map(_found, folders)))

    @property
    def files(self) -> list[Path]:
        """Return the files in order: of the folders, and of the paths below each."""
        return [path for found in self.found for path in found.files.values()]

    @cached_property
    def identity(self) -> list[dict[str, str]]:
        """Return the SHA-256 of each folder's files by relative path, wherever it lies."""
        return [
            {name: sha256_file(path) for name, path in found.files.items()} for found in self.found
        ]

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return the number of the files, and one digest of them all."""
        if not self.folders:
            return NOTHING_READ
        digest = hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()
        return {"files": len(self.files), "sha256": digest}

    def require_record(self, run: Path) -> None:
        """Refuse a run whose places count other files than these.

        Raises:
            InputError: as said.
        """
        found = read_record(run)
        if found != self.record:
            raise InputError(
                f"{run}: its near copies are counted with {found['files']} files of earlier "
                f"corpora, and {list(self.folders)} now hold {len(self.files)} files, or others; "
                "expected the same files: leave them as they are while a recipe runs, and run again"
            )

    def table(self, counts: Sequence[int]) -> list[dict[str, Any]]:
        """Return a row per folder, given the number of documents of each file.

        Raises:
            InputError: a folder without a document.
        """
        rows: list[dict[str, Any]] = []
        left = iter(counts)
        for folder, found in zip(self.folders, self.found, strict=True):
            documents = sum(next(left) for _ in found.files)
            if not documents:
                raise InputError(
                    f"near_duplicates: earlier: {folder!r}: no document in {len(found.files)} "
                    "files; expected at least one: correct the folder, or take it out"
                )
            rows.append(
                {
                    "folder": folder,
                    "files": len(found.files),
                    "documents": documents,
                    "left_out": "; ".join(
                        f"{number} {reason}" for reason, number in sorted(found.left_out.items())
                    ),
                }
            )
        return rows


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Leave in a run folder which files of earlier corpora its places count, if any."""
    if record["files"]:
        write_json(run / RECORD_FILE, record)


def read_record(run: Path) -> dict[str, Any]:
    """Return what `write_record` has left in a run folder."""
    path = run / RECORD_FILE
    return read_json(path) if path.exists() else NOTHING_READ


def _found(folder: str) -> Found:
    path, now = expanded(folder)
    if path.is_absolute() and path.is_dir():
        include = [f"**/*{suffix}" for suffix in SUFFIXES]
        found = list_folder(path, "near_duplicates: earlier", include)
        if found.files:
            return found
    raise ConfigError(
        f"near_duplicates: earlier: {folder!r} ({now}): expected the absolute path of an existing "
        f"folder with Dolma documents below it (JSON lines: {', '.join(SUFFIXES)}); ~ and "
        "${VARIABLES} are expanded"
    )


def read_earlier(path: Path) -> Iterator[Document]:
    """Yield the documents of a file, each with the id that `raw` would give it.

    Raises:
        InputError: a file that is not whole, or a line that is no document.
    """
    for document in read_documents(path):
        named = document.id.startswith(f"{document.source}/")
        yield document if named else replace(document, id=f"{document.source}/{document.id}")


def earlier_identity(folders: Sequence[str]) -> dict[str, Any]:
    """Return the digests of the files of earlier corpora, part of the fingerprint.

    They stand in place of the folders: where these lie is no part of it.

    Raises:
        ConfigError: as `EarlierCorpora.of`.
        InputError: the same.
    """
    return {"earlier": EarlierCorpora.of(folders).identity}
