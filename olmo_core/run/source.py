"""A module's source as far as it can change a result: its definitions and the rest, hashed each.

Left out are comments, docstrings, layout, how imports are written, imports of what never counts,
and messages: what a `raise` or an `assert` says, and calls that log, warn or report progress. Only
the text goes. The `raise` stays with its condition, and so does a call inside a message that may
have an effect.
"""

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HASH_LENGTH = 12
DEFINITION_HASH_LENGTH = 8  # only compared with its own earlier self
TOP_LEVEL, IMPORTS = "top level", "imports"

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
PROGRESS_METHODS = {"progress", "ready", "computes"}  # of a Job
JOBS = {"job", "self.job"}  # how a Job is called where it reports
SILENT_MODULES = {"logging", "warnings"}

# Calls that do nothing but return a value.
PURE_FUNCTIONS = {"abs", "float", "format", "int", "len", "repr", "round", "str", "type"}
PURE_METHODS = {"keys", "items", "values", "removeprefix", "removesuffix", "lower", "upper"}
CLOCKS = {"perf_counter", "monotonic", "time"}
# These use up what they are given, if it is an iterator: nothing where the function ends there.
CONSUMERS = {"list", "max", "min", "set", "sorted", "sum", "tuple"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What one module is: a hash per definition (`function Schedule.at`), and what it imports."""

    definitions: dict[str, str]
    imports: tuple[str, ...]

    @property
    def hash(self) -> str:
        """Return one hash of all definitions, in whichever order they stand."""
        lines = "".join(f"{value}  {name}\n" for name, value in sorted(self.definitions.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:HASH_LENGTH]


def read_source(content: bytes, counts: Callable[[str], bool], *, name: str = "") -> Source:
    """Return what a module is.

    Args:
        content: Of its file.
        counts: Whether an imported module may change a result.
        name: Of the file, for a syntax error.
    """
    tree = ast.parse(content, filename=name)
    imports = _imports(tree)
    reached = {name for what, _ in imports for name in (what, what.rpartition(".")[0])}
    _WithoutMessages().visit(tree)  # changes it in place
    texts: dict[str, list[str]] = {}
    rest = _split(tree.body, "", texts)
    texts[TOP_LEVEL] = [ast.dump(node) for node in rest]
    texts[IMPORTS] = [
        f"{what} {name}"  # under another name it would stand for something else where it is used
        for what, name in imports
        if name or (what not in SILENT_MODULES and counts(what))
    ]
    definitions = {
        name: hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DEFINITION_HASH_LENGTH]
        for name, parts in texts.items()
    }
    ours = sorted(name for name in reached if name.startswith("olmo_core."))
    return Source(definitions=definitions, imports=tuple(ours))


def _imports(tree: ast.Module) -> list[tuple[str, str]]:
    """Return what is imported anywhere in a module, `package.module.name`, and under which name."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            inside = f"{node.module or ''}." if isinstance(node, ast.ImportFrom) else ""
            found.update((inside + alias.name, alias.asname or "") for alias in node.names)
    return sorted(found)


def _split(body: Sequence[ast.stmt], prefix: str, texts: dict[str, list[str]]) -> list[ast.stmt]:
    """Move the definitions of a body into `texts`; returns what is left of it.

    Of a decorated one a trace stays, since a decorator may depend on what stands before it.
    """
    rest: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            name = f"class {prefix}{node.name}"
            node.body = _split(node.body, f"{prefix}{node.name}.", texts)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"function {prefix}{node.name}"
        else:
            rest.append(node)
            continue
        texts.setdefault(name, []).append(ast.dump(node))  # a property has two of a name
        if node.decorator_list:
            rest.append(ast.Expr(ast.Constant(name)))
    return rest


class _WithoutMessages(ast.NodeTransformer):
    """Takes docstrings, imports and messages out of a tree."""

    def __init__(self) -> None:
        self._loggers: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        return super().visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        return None

    visit_ImportFrom = visit_Import

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "logging.getLogger":
            self._loggers.update(ast.unparse(target) for target in node.targets)
            return None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            _drop_texts(node.exc, ends=True)
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Call) and self._reports(node.value):
            _drop_texts(node.value, ends=False)
            if not node.value.args and not node.value.keywords:
                return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if (
            isinstance(f := node.func, ast.Attribute)
            and f.attr == "timed"
            and ast.unparse(f.value) in JOBS
        ):
            _drop_texts(node, ends=False)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        silent = not node.body and not node.orelse and not _effects(node.test, ends=False)
        return None if silent else node

    def _reports(self, call: ast.Call) -> bool:
        """Return whether a statement is only a message: log, warning or progress."""
        said_by, _, method = ast.unparse(call.func).rpartition(".")
        if said_by in JOBS:
            return method in PROGRESS_METHODS
        if said_by in {"logging", *self._loggers}:
            return method in LOG_METHODS
        if (said_by, method) == ("", "print"):  # standard output may be read by another process
            return any(ast.unparse(word.value) == "sys.stderr" for word in call.keywords)
        return (said_by, method) == ("warnings", "warn")


def _drop_texts(call: ast.Call, *, ends: bool) -> None:
    """Leave of a call's arguments only what may have an effect."""
    arguments = [*call.args, *(word.value for word in call.keywords)]
    call.args = [each for argument in arguments for each in _effects(argument, ends=ends)]
    call.keywords = []


def _effects(node: ast.AST, *, ends: bool) -> list[ast.expr]:
    """Return the parts of an expression that may do more than return a value.

    Args:
        node: The expression.
        ends: The function ends there, by an exception: what is used up is not missed.
    """
    if isinstance(node, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom):
        return [node]
    if isinstance(node, ast.Call) and not _is_pure(node, ends=ends):
        return [node]
    inside = [each for child in ast.iter_child_nodes(node) for each in _effects(child, ends=ends)]
    if isinstance(node, COMPREHENSIONS) and (inside or not ends):
        return [node]
    if inside and isinstance(node, ast.IfExp | ast.BoolOp | ast.Lambda):
        return [node]  # what it depends on belongs to it
    return inside


def _is_pure(call: ast.Call, *, ends: bool) -> bool:
    match call.func:
        case ast.Name(name):
            return name in PURE_FUNCTIONS or (ends and name in CONSUMERS)
        case ast.Attribute(value=ast.Constant(str()), attr=method):
            return method == "format" or (ends and method == "join")
        case ast.Attribute(value=ast.Name("time"), attr=method):
            return method in CLOCKS
        case ast.Attribute(attr=method):
            return method in PURE_METHODS
        case _:
            return False
