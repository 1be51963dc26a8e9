"""The files below a user's folder: those that patterns name are read, the others counted."""

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from olmo_core.errors import InputError

BESIDE = "attributes beside Dolma documents (files)"
MOST_KINDS = 8  # of files that are not read, counted by suffix; the others together


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies below a folder."""

    files: Mapping[str, Path]  # those that are read, by their relative paths, sorted
    left_out: Counter[str]  # the others by reason
    attributes: frozenset[Path]  # of the others, those in `attributes/` beside `documents/`


def list_folder(
    root: Path, whose: str, include: Sequence[str], exclude: Sequence[str] = ()
) -> Found:
    """Return the files below a folder that are read, and count the others.

    Links to files and folders are followed.

    Args:
        root: The folder.
        whose: Key or source that names it, for errors.
        include: Glob patterns of what is read, below it.
        exclude: Patterns of what is not, as for `matches`.

    Raises:
        InputError: a file's name is not UTF-8, a folder cannot be read, or a linked one lies in
            itself.
    """
    patterns = [PurePosixPath(each).parts for each in include]
    files: dict[str, Path] = {}
    attributes: set[Path] = set()
    left_out: Counter[str] = Counter()
    for path, apart in _walk(root, frozenset()):
        name = path.relative_to(root).as_posix()
        parts = tuple(name.split("/"))
        if apart == BESIDE:
            attributes.add(path)
        if apart:
            left_out[apart] += 1
        elif matches(name, exclude):
            left_out["excluded (files)"] += 1
        elif any(fits(parts, pattern) for pattern in patterns):
            files[name] = path
        else:
            reason = f"that no pattern includes, {path.suffix or 'without a suffix'} (files)"
            kinds = sum(known.startswith("that no pattern includes, ") for known in left_out)
            if reason not in left_out and kinds >= MOST_KINDS:
                reason = "that no pattern includes, of further kinds (files)"
            left_out[reason] += 1
    for name in files:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{root}: file {os.fsencode(name)!r} ({whose}): its name is not UTF-8; rename it, "
                "or leave it out"
            ) from None
    return Found(
        files=dict(sorted(files.items())), left_out=left_out, attributes=frozenset(attributes)
    )


def _walk(
    folder: Path, above: frozenset[tuple[int, int]], apart: str = ""
) -> Iterator[tuple[Path, str]]:
    """Yield each file below a folder, and why it is no text where that is known."""
    status = folder.stat()
    inode = (status.st_dev, status.st_ino)
    if inode in above:
        raise InputError(
            f"{folder}: a link to a folder that it lies in; expected folders that end: remove it"
        )
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; expected a folder that can be read: none below the one "
            "that a recipe names is passed over"
        ) from None
    folders = {entry.name for entry in entries if _followed(entry).is_dir()}
    for entry in entries:
        path = Path(entry.path)
        if entry.name in folders:
            is_beside = entry.name == "attributes" and "documents" in folders
            reason = BESIDE if is_beside else apart
            yield from _walk(path, above | {inode}, reason)
        else:
            is_file = _followed(entry).is_file()
            yield path, apart if is_file else "links to nothing, pipes and devices (files)"


def _followed(entry: os.DirEntry[str]) -> Path | os.DirEntry[str]:
    """Return what knows an entry's kind: itself, without a look at the disk, or a link followed."""
    return Path(entry.path) if entry.is_symlink() else entry


def matches(relative: str, patterns: Sequence[str]) -> bool:
    """Return whether a relative path matches one of the patterns; `*` matches `/` too."""
    return any(fnmatch.fnmatchcase(relative, pattern) for pattern in patterns)


def fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a path matches a glob pattern; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return fits(parts, pattern[1:]) or (bool(parts) and fits(parts[1:], pattern))
    return (
        bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and fits(parts[1:], pattern[1:])
    )
