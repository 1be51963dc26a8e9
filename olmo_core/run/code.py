"""What code makes a result: hashes of a module and of everything of `olmo_core` that it imports.

Of syntax trees without docstrings, so that a comment or a reformatted line changes nothing.
"""

import ast
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import olmo_core

PACKAGE_ROOT = Path(next(iter(olmo_core.__path__))).parent

# What reports, watches, launches, moves bytes or raises errors decides no byte of a result; the
# loader only brings values into the configuration, which is hashed itself.
NOT_IDENTITY = (
    "olmo_core.config.interpolation",
    "olmo_core.config.load",
    "olmo_core.config.load_tree",
    "olmo_core.environment",
    "olmo_core.errors",
    "olmo_core.files",
    "olmo_core.monitor",
    "olmo_core.remote",
    "olmo_core.run",
    "olmo_core.supervisor",
    "olmo_core.tasks",
)

HASH_LENGTH = 12

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def code_hashes(module: str) -> dict[str, str]:
    """A hash for each module of `olmo_core` that `module` reaches through its imports.

    As this process first saw them: one process has one opinion of what a result is made of.
    """
    return code_hashes_now(module)


def code_hashes_now(module: str) -> dict[str, str]:
    """As `code_hashes`, from the files as they are at this moment."""
    hashes: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in hashes or not _counts(name):
            continue
        path = _source(name)
        if path is None:
            continue
        hashes[name], imported = _hash_source(path, path.stat().st_mtime_ns)
        waiting.extend(imported)
    return dict(sorted(hashes.items()))


def code_digest(*modules: str) -> str:
    """One hash of all the code that these modules reach, as this process first saw it."""
    return _digest({k: value for module in modules for k, value in code_hashes(module).items()})


def code_digest_now(module: str) -> str:
    """As `code_digest`, from the files as they are at this moment."""
    return _digest(code_hashes_now(module))


def _digest(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _counts(module: str) -> bool:
    """Whether a module decides what a result is: it is in none of the packages that never do."""
    return not any(module == name or module.startswith(f"{name}.") for name in NOT_IDENTITY)


def _source(module: str) -> Path | None:
    base = PACKAGE_ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__main__.py"):
        if path.is_file():
            return path
    return None  # a package, or a name imported from a module


@functools.cache
def _hash_source(path: Path, modified_ns: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from a.b import c` may name the module a.b.c or something inside a.b.
            imported.append(node.module)
            imported.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    own = tuple(sorted({name for name in imported if name.startswith("olmo_core.")}))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:HASH_LENGTH], own
