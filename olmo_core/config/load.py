"""Turn YAML and dotted overrides into frozen dataclasses; nothing unknown or mistyped passes.

Every error names the file, the line, the key, what stands there and what would be right.
"""

import contextlib
import dataclasses
import difflib
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from olmo_core.config.load_tree import Tree, read_tree
from olmo_core.errors import ConfigError

T = TypeVar("T")


def load(path: Path | str) -> Tree:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, or is not a YAML mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {str(error.strerror).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    return parse(text, file=str(path))


def parse(text: str, *, file: str = "<string>") -> Tree:
    """Read a YAML mapping from a string; `file` is the name that errors give."""
    try:
        value = read_tree(text, file)
    except (yaml.YAMLError, RecursionError) as error:  # a control character, too deep: no mark
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else file
        problem = getattr(error, "problem", error)
        lines = [*text.split("\n"), ""]
        if mark and lines[int(mark.line)][: int(mark.column) + 1].endswith("\t"):
            problem = "a tab; YAML is indented by spaces"
        raise ConfigError(f"{place}: not valid YAML: {problem}") from None
    if value is None:
        return Tree({}, file=file)
    if not isinstance(value, Tree):
        raise ConfigError(f"{file}: expected a mapping of keys, found {type(value).__name__}")
    return value


def apply_override(tree: Tree, override: str, *, place: str = "override") -> None:
    """Set one dotted key of `tree` in place: `a.b=c`, with or without leading dashes.

    The value is read as YAML (`--a.b=[1, 2]`); `--key` alone means true, as in OLMo. `place` is
    where the value was given; errors name it.

    Raises:
        ConfigError: the override is malformed.
    """
    key, equals, value = override.lstrip("-").partition("=")
    if not equals and override.startswith("--"):
        equals, value = "=", "true"
    if not equals or not key:
        raise ConfigError(f"override {override!r}: expected key=value, as in model.d_model=256")
    *parents, last = key.split(".")
    node: Tree = tree
    for parent in parents:
        if not isinstance(node.get(parent), Tree):
            if node.get(parent) is not None:
                raise ConfigError(f"override {override!r}: {parent!r} holds a value, not keys")
            node[parent], node.places[parent] = Tree({}, file=tree.file), place
        node = node[parent]
    try:
        node[last] = read_tree(value, f"override {key}") if value else ""
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML ({error})") from None
    node.places[last] = place


def build(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Make the dataclass `cls` from a mapping, coercing scalars by the declared types.

    PyYAML reads `3e-4` and `50e9` as strings; they become numbers where a number is declared.

    Raises:
        ConfigError: unknown key (the nearest one is named), missing key, wrong type, or a value
            that the class's own `__post_init__` refuses with a ValueError.
    """
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls)) if field.init}
    for key in values:
        if key not in fields:
            place = place_in(values, key, where)
            raise ConfigError(f"{place}: unknown key; {nearest(key, fields)}")
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            place = place_in(values, name, where)
            arguments[name] = _coerce(hints[name], values[name], place, _dotted(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{place_in(values, name, where)}: key missing")
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(_located(values, fields, where, str(error))) from None


def _located(values: Mapping[str, Any], fields: Mapping[str, Any], where: str, message: str) -> str:
    """Return what a class says of its values, with the place of the key that it begins with."""
    dotted = re.split("[ :]", message, maxsplit=1)[0]
    if dotted.split(".")[0] in fields:
        return place_in(values, dotted, where) + message.removeprefix(dotted)
    return ": ".join(part for part in (getattr(values, "file", ""), where, message) if part)


def nearest(key: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Say which known key an unknown one was probably meant to be, whatever its case."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    return f"expected one of {', '.join(sorted(known)) or 'none'}"


def to_dict(value: Any) -> Any:
    """Return the plain YAML- and JSON-able form of a configuration; paths become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in cast(Sequence[Any], value)]
    if isinstance(value, Path):  # pathlib drops one of the two slashes of an address
        return re.sub(r"^([a-z0-9]+):/(?=[^/])", r"\1://", str(value))
    return value


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def place_in(values: Any, dotted: str, where: str = "") -> str:
    """Return `file:line: a.b.c` of a dotted key, as far as known; its file where it is not given.

    `where` is the dotted way to `values`.
    """
    node = values
    *parents, key = [dotted] if dotted in values else dotted.split(".")
    for parent in parents:
        node = node.get(parent) if isinstance(node, Tree) else None
    place = node.place(key) if isinstance(node, Tree) else getattr(values, "file", "")
    return f"{place}: {_dotted(where, dotted)}" if place else _dotted(where, dotted)


def _coerce(hint: Any, value: Any, place: str, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(arguments, value, place, where)
    if origin is Literal:
        if value in arguments and type(value) in {type(choice) for choice in arguments}:
            return value
        raise ConfigError(f"{place}: {value!r} is not one of {', '.join(map(repr, arguments))}")
    if origin in (list, tuple):
        return _coerce_items(origin, arguments, value, place, where)
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: expected a mapping of keys, found {value!r}")
        values = cast(Mapping[str, Any], value)
        if origin is None:
            return build(cast(type[Any], hint), values, where=where)
        return {
            str(key): _coerce(arguments[1], item, place_in(values, key, where), _dotted(where, key))
            for key, item in values.items()
        }
    if isinstance(hint, type):
        return _coerce_scalar(hint, value, place)
    raise TypeError(f"{place}: a configuration cannot hold the type {hint}")


def _coerce_union(choices: tuple[Any, ...], value: Any, place: str, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    for choice in choices:  # an exact match first, so that int | str keeps a string a string
        if isinstance(choice, type) and type(value) is choice:
            return value
    errors: list[str] = []
    for choice in (choice for choice in choices if choice is not type(None)):
        try:
            return _coerce(choice, value, place, where)
        except ConfigError as error:
            errors.append(str(error))
    # One real choice beside None: its own message says it best.
    raise ConfigError(errors[0] if len(errors) == 1 else " or ".join(errors))


def _coerce_items(
    origin: Any, arguments: tuple[Any, ...], value: Any, place: str, where: str
) -> Any:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{place}: expected a list, found {value!r}")
    items = cast(Sequence[Any], value)
    of_any_length = origin is list or arguments[-1] is Ellipsis
    kinds = arguments[:1] * len(items) if of_any_length else arguments
    if len(items) != len(kinds):
        raise ConfigError(f"{place}: expected {len(kinds)} values, found {len(items)}")
    built = [
        _coerce(kind, item, f"{place}[{i}]", f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, items, strict=True))
    ]
    return built if origin is list else tuple(built)


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _coerce_scalar(hint: type, value: Any, place: str) -> Any:
    if issubclass(hint, Path) and isinstance(value, str | Path):
        return Path(value)
    if hint in (int, float):
        number = _number(value)
        if number is not None and (hint is float or float(number).is_integer()):
            return hint(number)
    elif isinstance(value, hint):
        return value
    kind = _KINDS.get(hint.__name__, hint.__name__)
    raise ConfigError(f"{place}: expected {kind}, found {value!r}")


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    # YAML's true is no 1 here
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
