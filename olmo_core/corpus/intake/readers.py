"""The readers of raw text: code, docstrings, topics, package texts, licences, a user's files.

A reader lists the files of a source and yields the texts of one file. Code is parsed, not
imported (but for Python's help topics); the same files give the same texts, under the same names.
"""

import ast
import email
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from olmo_core.corpus.document import UNDATED
from olmo_core.corpus.intake.sources import (
    SourceConfig,
    Unit,
    package_files,
    standard_library_files,
    user_files,
)
from olmo_core.corpus.rows import check_row, parse_row, read_lines
from olmo_core.errors import InputError

LICENCE_NAME = re.compile(r"(licen[cs]e|copying|notice|copyright|patents)", re.IGNORECASE)
MAX_DEPTH = 100  # of a row's metadata; the toolkit's own JSON reader stops at 128
TEXT_SUFFIXES = (".md", ".rst", ".txt")
# Files of dist-info and of builds that are lists for programs, not text.
NOT_PROSE = re.compile(
    r"(top_level|entry_points|requirements?|sources|dependency_links|cmakelists|record|robots)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """One text of a unit: the last part of its id ("" when the unit is the text)."""

    name: str
    text: str
    line: int | None = None  # of the file, where a document is a line
    added: str = UNDATED
    created: str = UNDATED
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A user's document that cannot be taken."""

    error: InputError
    place: Mapping[str, Any] = field(default_factory=dict[str, Any])  # line and content, of a row


class Unreadable(Exception):
    """An installed file that is not the text that its name promises; counted, not read."""


UnitReader = Callable[[Unit], Iterable[Passage | Refused]]


def _python_text(unit: Unit) -> str:
    content = unit.path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, UnicodeDecodeError):
        raise Unreadable("not in its declared encoding") from None


def _code(unit: Unit) -> Iterator[Passage]:
    yield Passage(name="", text=_python_text(unit))


def _docstrings(unit: Unit) -> Iterator[Passage]:
    """Yield the docstring of each module, class and function, named by its dotted path."""
    try:
        tree = ast.parse(_python_text(unit))
    except (SyntaxError, ValueError):
        raise Unreadable("not valid Python (templates)") from None
    parts = PurePosixPath(unit.name).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    seen: Counter[str] = Counter()
    for path, node in _documentable(tree, module):
        text = ast.get_docstring(node)
        if not text:
            continue
        seen[path] += 1
        # Overloads and conditional definitions share a path.
        yield Passage(name=path if seen[path] == 1 else f"{path}~{seen[path]}", text=text)


Documentable = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documentable(node: ast.AST, path: str) -> Iterator[tuple[str, Documentable]]:
    if isinstance(node, Documentable):
        yield path, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documentable(child, f"{path}.{child.name}")
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from _documentable(child, path)


def _topics(_: Unit) -> Iterator[Passage]:
    """Yield the text of each `help("topic")`."""
    from pydoc_data.topics import topics  # 0.7 MB, and few processes read it

    for topic, text in sorted(topics.items()):
        yield Passage(name=topic, text=text.strip())


def _prose(unit: Unit) -> Iterator[Passage]:
    """Yield a whole text file, or the long description of a package's METADATA."""
    try:
        text = unit.path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    if not unit.name.endswith("/METADATA"):
        yield Passage(name="", text=text)
        return
    message = email.message_from_string(text)
    body = message.get_payload()
    description = body if isinstance(body, str) and body.strip() else message["Description"]
    if description and str(description).strip() != "UNKNOWN":
        yield Passage(
            name=f"{unit.origin['package']}/long-description", text=str(description).strip()
        )


def _user_file(unit: Unit) -> Iterator[Passage | Refused]:
    """Yield a user's `.txt` or `.md` (one document), or Dolma JSON lines (a document per line)."""
    if unit.path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz", ".json")):
        yield from _user_rows(unit)
        return
    try:
        text = _user_text(unit)
        check_row({"id": unit.name, "text": text}, str(unit.path), ("id", "text"))
        yield Passage(name="", text=text)
    except InputError as error:
        yield Refused(error=error)


def _user_text(unit: Unit) -> str:
    content = unit.path.read_bytes()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{unit.path}:{line}: byte 0x{content[error.start]:02x} at offset {error.start} is not "
            "UTF-8; expected text in UTF-8"
        ) from None


def _user_rows(unit: Unit) -> Iterator[Passage | Refused]:
    for number, line in read_lines(unit.path):  # of a file that is not whole no line is taken
        where = f"{unit.path}:{number}"
        try:
            row = parse_row(line, where)
            check_row(row, where, ("id", "text"))
            _check_carried(row, where)
        except InputError as error:
            yield Refused(error=error, place={"line": number, "content": repr(line[:2000])})
            continue
        yield Passage(
            name=row["id"],
            text=row["text"],
            line=number,
            added=str(row.get("added") or UNDATED),
            created=str(row.get("created") or UNDATED),
            metadata=row.get("metadata") or {},
        )


def _check_carried(row: Mapping[str, Any], where: str) -> None:
    """Refuse what is carried along and cannot be written as JSON in UTF-8 by every later step."""
    for key in ("added", "created", "metadata"):
        value = row.get(key)
        if _deeper_than(MAX_DEPTH, value):
            raise InputError(f"{where}: key {key!r} is nested deeper than {MAX_DEPTH} levels")
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
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


def _python_units(source: SourceConfig) -> Iterator[Unit]:
    if source.standard_library:
        yield from standard_library_files(source)
    yield from (unit for unit in package_files(source) if unit.name.endswith(".py"))


def _is_prose(unit: Unit) -> bool:
    file = PurePosixPath(unit.name)
    return unit.name.endswith(".dist-info/METADATA") or (
        file.suffix.lower() in TEXT_SUFFIXES
        and not LICENCE_NAME.search(unit.name)
        and not NOT_PROSE.search(file.name)
    )


def _is_licence(unit: Unit) -> bool:
    file = PurePosixPath(unit.name)
    return bool(LICENCE_NAME.search(file.name)) and file.suffix.lower() in ("", *TEXT_SUFFIXES)


def _is_topics(unit: Unit) -> bool:
    return unit.name == "pydoc_data/topics.py"


READERS: Mapping[str, Callable[[SourceConfig], tuple[Iterable[Unit], UnitReader]]] = {
    "python_code": lambda source: (_python_units(source), _code),
    "docstrings": lambda source: (_python_units(source), _docstrings),
    "pydoc_topics": lambda source: (filter(_is_topics, standard_library_files(source)), _topics),
    "package_text": lambda source: (filter(_is_prose, package_files(source)), _prose),
    "licences": lambda source: (filter(_is_licence, package_files(source)), _prose),
    "files": lambda source: (user_files(source), _user_file),
}
