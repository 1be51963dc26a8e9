"""A user's files below a folder: which are read, and the documents of each."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from olmo_core.corpus.document import UNDATED
from olmo_core.corpus.intake import json_lines, parquet, plain_text, warc
from olmo_core.corpus.intake.elsewhere import beside, with_attributes
from olmo_core.corpus.intake.folders import BESIDE, list_folder
from olmo_core.corpus.intake.passages import LeftOut, Passage, Refused
from olmo_core.corpus.intake.sources import Listing, SourceConfig, Unit, named_place
from olmo_core.corpus.rows import check_row, require_utf8
from olmo_core.errors import ConfigError, InputError

MAX_DEPTH = 100  # of a row's metadata; the toolkit's own JSON reader stops at 128
DATES = ("added", "created")
CARRIED = (*DATES, "metadata")  # of a Dolma document, beside id, text and source
DEFAULT_INCLUDE = tuple(
    f"**/*{suffix}"
    for suffix in (
        *plain_text.SUFFIXES,
        *(suffix for suffix in json_lines.SUFFIXES if suffix != ".json"),  # one object, mostly
        *parquet.SUFFIXES,
        *warc.SUFFIXES,
    )
)


def user_files(source: SourceConfig) -> Listing:
    """Return a user's files below `root` that are read, sorted by relative path; count the others.

    Links to files and folders are followed.

    Raises:
        ConfigError: the folder is missing, relative, or holds no such file.
        InputError: a file's name is not UTF-8, or a linked folder lies in itself.
    """
    root, include = named_place(source, "root"), source.include or DEFAULT_INCLUDE
    found = list_folder(root, f"source {source.name}", include, source.exclude)
    if not found.files:
        raise ConfigError(f"sources: {source.name}: no file in {root} matches {list(include)}")
    units = [Unit(name=name, path=path, origin={}) for name, path in found.files.items()]
    if not source.attributes:
        return Listing(units=units, left_out=found.left_out)
    units = [with_attributes(source, unit) for unit in units]
    unread = found.attributes.difference(*(unit.attributes for unit in units))
    left_out = Counter({**found.left_out, BESIDE: len(unread)})
    return Listing(units=units, left_out=+left_out)


def read_user_file(source: SourceConfig, unit: Unit) -> Iterator[Passage | Refused | LeftOut]:
    """Yield the documents of a file: one per line, row or record, or the whole text.

    Raises:
        InputError: the file is not whole.
    """
    name = unit.path.name
    if name.endswith(json_lines.SUFFIXES):
        rows = json_lines.read(unit.path)
    elif name.endswith(parquet.SUFFIXES):
        wanted = (source.id_key, *source.metadata_keys, *CARRIED)
        rows = parquet.read(unit.path, (source.text_key,), wanted)
    else:
        yield from warc.read(unit.path) if name.endswith(warc.SUFFIXES) else _whole(unit)
        return
    for (number, row), attributes in beside(source, unit, rows):
        if isinstance(row, Refused):
            yield row
            continue
        try:
            passage = _passage(source, row, number, f"{unit.path}:{number}")
            yield replace(passage, attributes=attributes) if attributes else passage
        except InputError as error:
            yield Refused(error=error, place={"line": number, "content": ascii(row)[:2000]})


def _whole(unit: Unit) -> Iterator[Passage | Refused]:
    try:
        text = plain_text.read(unit.path)
        check_row({"id": unit.name, "text": text}, str(unit.path), ("id", "text"))
        yield Passage(name="", text=text)
    except InputError as error:
        yield Refused(error=error)


def _passage(source: SourceConfig, row: Mapping[str, Any], number: int, where: str) -> Passage:
    """Return the document of a row.

    Raises:
        InputError: with `where` (file:line): a value that cannot be taken.
    """
    found = row.get(source.id_key)
    if found is None or found == "":
        name, was = "", "missing"
    elif isinstance(found, int) and not isinstance(found, bool):
        name, was = str(found), "integer"
    elif isinstance(found, str):
        name, was = found, "text"
        require_utf8(name, f"{where}: key {source.id_key!r}")
    else:
        kind = type(found).__name__
        raise InputError(f"{where}: key {source.id_key!r} is a {kind}; expected text or an integer")
    check_row(row, where, (source.text_key,), text_key=source.text_key)
    _check_carried(row, where, (*CARRIED, *source.metadata_keys))
    for key in DATES:
        if isinstance(row.get(key), dict | list):
            kind = type(row[key]).__name__
            raise InputError(
                f"{where}: key {key!r} is a {kind}; expected a date as text or a number"
            )
    named = {key: row[key] for key in source.metadata_keys if key in row}
    return Passage(
        name=name,
        text=row[source.text_key],
        line=number,
        id_was=was,
        added=str(row.get("added") or UNDATED),
        created=str(row.get("created") or UNDATED),
        metadata={**(row.get("metadata") or {}), **named},
    )


def _check_carried(row: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> None:
    """Refuse what is carried along and cannot be written as JSON in UTF-8 by every later step."""
    for key in keys:
        value = row.get(key)
        if value is None or value == {} or (isinstance(value, str) and value.isascii()):
            continue
        if _deeper_than(MAX_DEPTH, value):
            raise InputError(f"{where}: key {key!r} is nested deeper than {MAX_DEPTH} levels")
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{where}: key {key!r} cannot be written again ({error}); expected finite numbers, "
                "and text without lone surrogates"
            ) from None


def _deeper_than(levels: int, value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType,reportUnknownMemberType]
    if not isinstance(value, list):
        return False
    return levels == 0 or any(_deeper_than(levels - 1, part) for part in value)  # pyright: ignore[reportUnknownVariableType]
