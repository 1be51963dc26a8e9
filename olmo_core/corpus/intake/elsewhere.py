"""Attributes made elsewhere: files beside Dolma documents, row for row, read along with them.

`documents/<path>` has its attributes in `attributes/<folder>/<path>`, as the dolma toolkit writes
them: one line `{"id": …, "attributes": {<name>: [[start, end, score], …]}}` per document.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import Any, cast

from olmo_core.corpus.intake import json_lines
from olmo_core.corpus.intake.passages import Attributes, Refused, Span
from olmo_core.corpus.intake.sources import SourceConfig, Unit
from olmo_core.corpus.rows import parse_row, read_lines
from olmo_core.errors import ConfigError, InputError

Row = tuple[int, Mapping[str, Any] | Refused]  # number of the line, its object


def with_attributes(source: SourceConfig, unit: Unit) -> Unit:
    """Return a file of documents with the files of the attributes that its source names.

    Raises:
        ConfigError: it lies in no folder `documents`, or is not of JSON lines.
        InputError: there is no such file.
    """
    parts = unit.path.parts
    above = [number for number, part in enumerate(parts[:-1]) if part == "documents"]
    if not above or not unit.path.name.endswith(json_lines.SUFFIXES):
        raise ConfigError(
            f"sources: {source.name}: {unit.name}: has no attributes beside it; expected JSON "
            "lines in a folder `documents`: name them with `include`, or take `attributes` away"
        )
    folder, rest = Path(*parts[: above[-1]]), parts[above[-1] + 1 :]
    found = tuple(folder.joinpath("attributes", name, *rest) for name in source.attributes)
    for path in found:
        if not path.is_file():
            raise InputError(
                f"{path}: missing; expected the attributes of {unit.path}, row for row (source "
                f"{source.name}, attributes)"
            )
    return replace(unit, attributes=found)


def named_files(source: SourceConfig, unit: Unit) -> Iterator[tuple[str, Path]]:
    """Yield the files that decide what a file's documents are, each with its name."""
    yield unit.name, unit.path
    for name, path in zip(source.attributes, unit.attributes, strict=True):
        yield f"{unit.name} (attributes {name})", path


def beside(
    source: SourceConfig, unit: Unit, rows: Iterable[Row]
) -> Iterator[tuple[Row, Attributes]]:
    """Yield each row of a file of documents with what its files of attributes say of it.

    Raises:
        InputError: a file of attributes is damaged, or has another row, one more or one fewer.
    """
    if not unit.attributes:
        yield from ((row, {}) for row in rows)
        return
    files = [read_lines(path) for path in unit.attributes]
    together: Any = zip_longest(rows, *files)
    for row, *lines in together:
        attributes: dict[str, list[Span]] = {}
        for path, line in zip(unit.attributes, lines, strict=True):
            if row is None:
                raise InputError(f"{path}:{line[0]}: more rows than {unit.path}; expected as many")
            if line is None:
                raise InputError(
                    f"{path}: ends before row {row[0]} of {unit.path}; expected as many rows"
                )
            where = f"{path}:{line[0]}"
            found = _attributes(line[1], row, source, where, unit.path)
            if twice := attributes.keys() & found.keys():
                raise InputError(
                    f"{where}: attribute {min(twice)!r} stands in another file of {unit.path} as "
                    "well; expected each name once: take one off the source's `attributes`"
                )
            attributes.update(found)
        yield row, attributes


def _attributes(
    line: bytes, row: Row, source: SourceConfig, where: str, documents: Path
) -> dict[str, list[Span]]:
    found = parse_row(line, where)
    number, document = row
    # Of a document that is refused, the id may not even be known.
    known: Mapping[str, Any] = {} if isinstance(document, Refused) else document
    identity, text = known.get(source.id_key), known.get(source.text_key)
    most = len(text) if isinstance(text, str) else inf
    if not isinstance(document, Refused) and _id(found.get("id")) != _id(identity):
        raise InputError(
            f"{where}: id {found.get('id')!r}; expected {identity!r}, as in {documents}:{number}"
        )
    attributes: Any = found.get("attributes")
    if not isinstance(attributes, dict):
        raise InputError(f"{where}: found keys {sorted(found)}; expected an object 'attributes'")
    for name, spans in attributes.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(spans, list) or not all(map(_is_span, spans)):  # pyright: ignore[reportUnknownArgumentType]
            raise InputError(
                f"{where}: attribute {name!r} is {str(spans)[:80]}; expected a list of spans "  # pyright: ignore[reportUnknownArgumentType]
                "[start, end, score], as dolma's taggers write them"
            )
        # An end may lie one behind the text: dolma's `dedupe` writes such.
        beyond = [span for span in spans if span[0] > most]  # pyright: ignore[reportUnknownVariableType]
        if beyond:
            raise InputError(
                f"{where}: attribute {name!r} has a span {beyond[0]}, and {documents}:{number} has "
                f"a text of {most} characters; expected spans of this text, in characters"
            )
    return attributes  # pyright: ignore[reportUnknownVariableType]


def _id(value: Any) -> str:
    return "" if value is None else str(value)


def _is_span(span: Any) -> bool:
    if not isinstance(span, list) or len(span) != 3:  # pyright: ignore[reportUnknownArgumentType]
        return False
    start, end, score = cast(list[Any], span)
    # Not true or false: as a score, jq has them below every number.
    if any(isinstance(each, bool) for each in (start, end, score)):
        return False
    numbers = isinstance(start, int) and isinstance(end, int) and isinstance(score, int | float)
    return numbers and 0 <= start <= end and abs(score) < inf
