"""What a source of raw text is: its configuration, and the files that it reads."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from olmo_core.config.paths import expanded
from olmo_core.errors import ConfigError

ReaderName = Literal[
    "python_code",
    "docstrings",
    "pydoc_topics",
    "package_text",
    "licences",
    "files",
    "huggingface",
]

CHARACTER_BYTES = 4  # of the longest in UTF-8
OF_FILES = (  # and of datasets of files
    "include",
    "bad_documents",
    "id_key",
    "text_key",
    "metadata_keys",
    "attributes",
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source: where its text comes from and how much of it.

    Raises:
        ConfigError: a key that the reader does not use, or lacks.
    """

    name: str  # also the folder's name, the prefix of ids, the domain of evaluation
    reader: ReaderName
    standard_library: bool = False  # python_code, docstrings: read the standard library
    packages: tuple[str, ...] = ()  # distributions of this environment, by their names
    exclude: tuple[str, ...] = ()  # patterns of relative paths that are not read
    exclude_documents: str = ""  # file that lists ids, URLs and SHA-1; absolute, expanded as `root`
    root: str = ""  # files: folder, absolute; ~ and ${VARIABLES} are expanded when it is read
    urls: str = ""  # files, in place of root: file that lists URLs; absolute, expanded as `root`
    dataset: str = ""  # huggingface: its name, such as allenai/c4
    revision: str = ""  # huggingface: a commit of it, in 40 hexadecimal digits
    data_files: tuple[str, ...] = ()  # huggingface: patterns of its paths; none: all
    subset: str = ""  # huggingface, in place of data_files: one that its card names
    split: str = ""  # huggingface, in place of data_files: one of the subset; none: all
    include: tuple[str, ...] = ()  # files: glob patterns below root
    licence: str = ""  # of its texts, for the model card; decides nothing else
    max_bytes: int | None = None  # of text; units are taken in the order of a hash of their names
    max_document_bytes: int = 16_000  # longer texts are split at blank lines
    min_document_bytes: int = 200  # shorter texts are left out
    bad_documents: Literal["fail", "quarantine"] = "fail"  # files: what a bad line or file does
    id_key: str = "id"  # files: key or column of the id, text or an integer; it may be missing
    text_key: str = "text"  # files: key or column of the text
    metadata_keys: tuple[str, ...] = ()  # files: keys or columns to carry beside `metadata`'s own
    # files: folders below the `attributes/` beside Dolma's `documents/`, for rules to use
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.name):
            raise ConfigError(
                f"sources: name {self.name[:120]!r}: expected letters, digits, . _ - (at most 100)"
            )
        self._check_place()
        keys = (self.id_key, self.text_key, *self.metadata_keys)
        if not all(keys) or len(set(keys)) != len(keys):
            raise ConfigError(
                f"sources: {self.name}: id_key, text_key and metadata_keys name {list(keys)}; "
                "expected each key once"
            )
        for pattern in self.include:
            parts = PurePosixPath(pattern).parts
            glued = any("**" in part and part != "**" for part in parts)
            if not parts or parts[0] == "/" or ".." in parts or glued:
                raise ConfigError(
                    f"sources: {self.name}: include: pattern {pattern!r}; expected one relative to "
                    "`root` and below it, such as '**/*.txt' (`**` is a part of its own)"
                )
        for name in self.attributes:
            if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ConfigError(
                    f"sources: {self.name}: attributes: {name!r}; expected the name of a folder "
                    "below `attributes/`"
                )
        if self.reader in ("package_text", "licences") and not self.packages:
            raise ConfigError(f"sources: {self.name}: `packages` is empty; name what is read")
        if self.reader in ("python_code", "docstrings") and not (
            self.packages or self.standard_library
        ):
            raise ConfigError(
                f"sources: {self.name}: nothing to read; set `standard_library: true` or `packages`"
            )
        if not 0 < self.min_document_bytes <= self.max_document_bytes:
            raise ConfigError(
                f"sources: {self.name}: min_document_bytes {self.min_document_bytes} must be "
                f"above 0 and at most max_document_bytes {self.max_document_bytes}"
            )
        if self.max_document_bytes < CHARACTER_BYTES:
            raise ConfigError(
                f"sources: {self.name}: max_document_bytes {self.max_document_bytes}: expected "
                f"{CHARACTER_BYTES} or more, so that every character fits"
            )

    def _check_place(self) -> None:
        """Refuse a source without a place, with two, or with keys of another reader's."""
        if bool(self.root) + bool(self.urls) != (self.reader == "files"):
            raise ConfigError(
                f"sources: {self.name}: `root` belongs to, and only to, reader files, or `urls` in "
                "its place: expected one of the two there"
            )
        is_dataset = self.reader == "huggingface"
        if is_dataset:
            is_whole = bool(self.dataset and re.fullmatch(r"[0-9a-f]{40}", self.revision))
        else:
            of_dataset = (self.dataset, self.revision, self.data_files, self.subset, self.split)
            is_whole = not any(of_dataset)
        if not is_whole:
            raise ConfigError(
                f"sources: {self.name}: reader huggingface takes `dataset` and `revision`, a "
                f"commit in 40 hexadecimal digits (now {self.revision!r}), and no other reader does"
            )
        if self.data_files and (self.subset or self.split):
            raise ConfigError(
                f"sources: {self.name}: `data_files` beside `subset` or `split`; expected one of "
                "the two ways to name files"
            )
        if self.reader == "files" or is_dataset:
            return
        defaults = type(self).__dataclass_fields__
        for key in OF_FILES:
            if getattr(self, key) != defaults[key].default:
                raise ConfigError(
                    f"sources: {self.name}: `{key}` belongs to reader files, or huggingface"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One file that a reader reads."""

    name: str  # relative path, the same on every machine
    path: Path
    origin: Mapping[str, str]  # package and its version; "python" for the standard library
    attributes: tuple[Path, ...] = ()  # files that say something of its documents, row for row


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a source."""

    units: Sequence[Unit]  # sorted by their names
    left_out: Counter[str] = field(default_factory=Counter[str])  # files by reason


def named_place(source: SourceConfig, key: Literal["root", "urls", "exclude_documents"]) -> Path:
    """Return the folder `root`, or the file of another key, that a source names.

    Raises:
        ConfigError: it is relative, or not there.
    """
    text = getattr(source, key)
    path, found = expanded(text)
    kind = "folder" if key == "root" else "file"
    if not path.is_absolute() or not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ConfigError(
            f"sources: {source.name}: {key} {text!r} ({found}): expected an existing {kind} as an "
            "absolute path; ~ and ${VARIABLES} are expanded"
        )
    return path
