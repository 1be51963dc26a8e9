"""Read what is installed: code, docstrings, help topics, texts and licences of packages.

Nothing whose text is read is imported (but for Python's help topics): the files named in a
package's RECORD are listed, and code is parsed. The same files give the same texts.
"""

import ast
import email
import functools
import importlib.metadata
import io
import os
import re
import sys
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from olmo_core.corpus.intake.folders import matches
from olmo_core.corpus.intake.passages import Passage, Unreadable
from olmo_core.corpus.intake.sources import SourceConfig, Unit
from olmo_core.errors import ConfigError

# Written at build time, on another machine: paths, compilers, hosts.
MACHINE_FILES = ("_sysconfigdata*", "config-*", "site-packages/*", "dist-packages/*", "*/_vendor/*")
LICENCE_NAME = re.compile(r"(licen[cs]e|copying|notice|copyright|patents)", re.IGNORECASE)
TEXT_SUFFIXES = (".md", ".rst", ".txt")
# Files of dist-info and of builds that are lists for programs, not text.
NOT_PROSE = re.compile(
    r"(top_level|entry_points|requirements?|sources|dependency_links|cmakelists|record|robots)",
    re.IGNORECASE,
)


def package_version(name: str, source: SourceConfig) -> str:
    """Return the version of a package of a source.

    Raises:
        ConfigError: it is not installed in the environment that runs this.
    """
    try:
        return _versions().get(_normalised(name)) or importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"sources: {source.name}: package {name!r} is not installed in this environment; "
            "install the locked requirements, or take it off the list"
        ) from None


@functools.cache
def _versions() -> dict[str, str]:
    """Return the versions of installed packages, by normalised name.

    They are read from the names of the packages' folders (PEP 427): `importlib.metadata` parses a
    long file per package (0.37 s for the demo's 157).
    """
    found = [path.stem for entry in reversed(sys.path) for path in Path(entry).glob("*.dist-info")]
    return {_normalised(name): version for name, _, version in (s.partition("-") for s in found)}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def package_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the files of the source's packages as their RECORDs list them, in a fixed order.

    Raises:
        ConfigError: a package is not installed in the environment that runs this.
    """
    for name in source.packages:
        origin = {"package": name, "version": package_version(name, source)}
        for file in sorted(importlib.metadata.files(name) or (), key=str):
            relative = file.as_posix()
            # Scripts and data outside site-packages (`../../bin/x`) are not the package's text.
            if not relative.startswith("..") and not matches(
                relative, (*MACHINE_FILES, *source.exclude)
            ):
                yield Unit(name=relative, path=Path(str(file.locate())), origin=origin)


def standard_library_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the standard library's own `.py` files, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for file in sorted(files):
            path = Path(folder, file)
            relative = path.relative_to(root).as_posix()
            if file.endswith(".py") and not matches(relative, (*MACHINE_FILES, *source.exclude)):
                yield Unit(name=relative, path=path, origin={"package": "python"})


def _python_text(unit: Unit) -> str:
    content = unit.path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding).replace("\r\n", "\n")
    except (SyntaxError, UnicodeDecodeError):
        raise Unreadable("not in its declared encoding") from None


def read_code(unit: Unit) -> Iterator[Passage]:
    """Yield the text of a Python file."""
    yield Passage(name="", text=_python_text(unit))


def read_docstrings(unit: Unit) -> Iterator[Passage]:
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


def read_topics(_: Unit) -> Iterator[Passage]:
    """Yield the text of each `help("topic")`."""
    from pydoc_data.topics import topics  # 0.7 MB, and few processes read it

    for topic, text in sorted(topics.items()):
        yield Passage(name=topic, text=text.strip())


def read_prose(unit: Unit) -> Iterator[Passage]:
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


def code_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the Python files of the standard library and of packages."""
    if source.standard_library:
        yield from standard_library_files(source)
    yield from (unit for unit in package_files(source) if unit.name.endswith(".py"))


def topic_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield the file of the help topics."""
    files = standard_library_files(source)
    yield from (unit for unit in files if unit.name == "pydoc_data/topics.py")


def prose_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield packages' text files and METADATA, without licences and lists for programs."""
    for unit in package_files(source):
        file = PurePosixPath(unit.name)
        if unit.name.endswith(".dist-info/METADATA") or (
            file.suffix.lower() in TEXT_SUFFIXES
            and not LICENCE_NAME.search(unit.name)
            and not NOT_PROSE.search(file.name)
        ):
            yield unit


def licence_files(source: SourceConfig) -> Iterator[Unit]:
    """Yield packages' licence, copying and notice files."""
    for unit in package_files(source):
        file = PurePosixPath(unit.name)
        if LICENCE_NAME.search(file.name) and file.suffix.lower() in ("", *TEXT_SUFFIXES):
            yield unit
