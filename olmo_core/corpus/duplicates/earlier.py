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
from olmo_core.corpus.intake.json_lines import SUFFIXES
from olmo_core.corpus.intake.sources import Listing, SourceConfig
from olmo_core.corpus.intake.user_files import user_files
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, sha256_file, write_json

RECORD_FILE = "earlier.json"  # of assets near_duplicates and held_out: which files were read
NOTHING_READ = {"files": 0, "sha256": ""}
INCLUDE = tuple(f"**/*{suffix}" for suffix in SUFFIXES if suffix != ".json")


@dataclass(frozen=True, kw_only=True)
class EarlierCorpora:
    """The files of earlier corpora, as they lie now."""

    folders: tuple[str, ...]  # as the recipe names them
    listings: tuple[Listing, ...]  # the files of each

    @classmethod
    def of(cls, folders: Sequence[str]) -> "EarlierCorpora":
        """List the files below folders, by the rules by which `raw` lists those of a source.

        Raises:
            ConfigError: a folder is missing, relative, or holds no JSON lines.
            InputError: a linked folder lies in itself, or a file's name is not UTF-8.
        """
        return cls(folders=tuple(folders), listings=tuple(map(_listed, folders)))

    @property
    def files(self) -> list[Path]:
        """The files in order: of the folders, and of the paths below each."""
        return [unit.path for listing in self.listings for unit in listing.units]

    @cached_property
    def identity(self) -> list[dict[str, str]]:
        """The SHA-256 of each folder's files by relative path; where it lies is no part of it."""
        return [
            {unit.name: sha256_file(unit.path) for unit in listing.units}
            for listing in self.listings
        ]

    @cached_property
    def record(self) -> dict[str, Any]:
        """The number of the files, and one digest of them all."""
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
        for folder, listing in zip(self.folders, self.listings, strict=True):
            documents = sum(next(left) for _ in listing.units)
            if not documents:
                raise InputError(
                    f"near_duplicates: earlier: {folder!r}: no document in {len(listing.units)} "
                    "files; expected at least one: correct the folder, or take it out"
                )
            rows.append(
                {
                    "folder": folder,
                    "files": len(listing.units),
                    "documents": documents,
                    "left_out": "; ".join(
                        f"{number} {reason}" for reason, number in sorted(listing.left_out.items())
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


def _listed(folder: str) -> Listing:
    try:
        return user_files(
            SourceConfig(name="earlier", reader="files", root=folder, include=INCLUDE)
        )
    except ConfigError:
        raise ConfigError(
            f"near_duplicates: earlier: {folder!r} ({expanded(folder)[1]}): expected the absolute "
            "path of an existing folder with Dolma documents below it (JSON lines: .jsonl, "
            ".jsonl.gz, .jsonl.zst, .json.gz, .json.zst); ~ and ${VARIABLES} are expanded"
        ) from None


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
