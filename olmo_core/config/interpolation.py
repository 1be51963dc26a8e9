"""`${…}` in a training file, as OmegaConf and the resolvers of OLMo's trainer read it.

`${a.b}` is the value of another key, `${name:a,b}` that of a resolver; both nest and stand inside
longer texts; `\\${` is a plain `${`. Source: OmegaConf's grammar, and `path.*` of allenai/OLMo
`olmo/config.py`.
"""

import dataclasses
import glob
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from olmo_core.config.load import Tree, nearest, place_of
from olmo_core.config.url import is_remote
from olmo_core.errors import ConfigError

log = logging.getLogger("olmo")

_CHECKPOINT = re.compile(r"step(\d+)(-unsharded)?")
_ABSENT = object()


def interpolate(tree: Tree, *, root: Tree, schema: type, dry: bool = False) -> Tree:
    """A copy of `tree` with every interpolation replaced by its value.

    Args:
        tree: What to resolve; what it leaves out of `root` is resolved only if it is referred to.
        root: The whole file with its overrides, in which `${a.b}` is looked up.
        schema: The dataclass of the whole file; its default is the value of a key left out.
        dry: Look at no disk and need no environment: `path.choose` takes its first argument, what
            cannot be known stays as it is written, and each is logged.

    Raises:
        ConfigError: an unknown key (the nearest is named) or resolver, a key that refers to itself,
            a variable that is not set, a path that does not exist.
    """
    return _Interpolation(root, schema, dry).tree(tree, "")


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Where a text stands, and the keys that are being resolved on the way to it."""

    place: str
    pending: tuple[str, ...]

    def refuse(self, expression: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.place}: ${{{expression}}}: {problem}")


class _Interpolation:
    def __init__(self, root: Tree, schema: type, dry: bool) -> None:
        self._root, self._schema, self._dry = root, schema, dry
        self._resolvers: dict[str, Callable[[_Reader, str, Sequence[str]], Any]] = {
            "oc.env": self._environment,
            "path.choose": self._choose,
            "path.glob": self._glob,
            "path.last_checkpoint": self._last_checkpoint,
        }

    def tree(self, tree: Mapping[str, Any], where: str, pending: tuple[str, ...] = ()) -> Tree:
        values = {
            key: self._value(value, f"{where}{key}", _Reader(place_of(tree, key, where), pending))
            for key, value in tree.items()
        }
        return tree.like(values) if isinstance(tree, Tree) else Tree(values, file="", lines={})

    def _value(self, value: Any, dotted: str, reader: _Reader) -> Any:
        if isinstance(value, Mapping):
            return self.tree(cast(Mapping[str, Any], value), f"{dotted}.", reader.pending)
        if isinstance(value, list):
            items = cast(list[Any], value)
            return [self._value(item, f"{dotted}.{i}", reader) for i, item in enumerate(items)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if dotted in reader.pending:
            circle = " -> ".join((*reader.pending[reader.pending.index(dotted) :], dotted))
            raise ConfigError(f"{reader.place}: refers to itself: {circle}")
        return self._text(value, _Reader(reader.place, (*reader.pending, dotted)))

    def _text(self, text: str, reader: _Reader) -> Any:
        """The value of a text: any type where it is one interpolation, else a text."""
        parts: list[Any] = []
        plain, position = "", 0
        while position < len(text):
            if text.startswith("\\${", position):
                plain, position = f"{plain}${{", position + 3
            elif text.startswith("${", position):
                end = _closing(text, position, reader)
                parts += [plain] if plain else []
                parts.append(self._expression(text[position + 2 : end], reader))
                plain, position = "", end + 1
            else:
                plain, position = plain + text[position], position + 1
        parts += [plain] if plain else []
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            if isinstance(part, Mapping | list):
                raise ConfigError(f"{reader.place}: {text!r}: a part of a text cannot be {part!r}")
        return "".join(str(part) for part in parts)

    def _expression(self, expression: str, reader: _Reader) -> Any:
        name, *arguments = _split(expression, ":", most=1)
        if not arguments:
            return self._reference(str(self._text(name, reader)).strip(), reader)
        name = name.strip()
        if name not in self._resolvers:
            hint = nearest(name, sorted(self._resolvers))
            raise reader.refuse(expression, f"unknown resolver {name!r}; {hint}")
        return self._resolvers[name](reader, expression, _split(arguments[0], ","))

    def _reference(self, dotted: str, reader: _Reader) -> Any:
        if not dotted or dotted.startswith("."):
            raise reader.refuse(dotted, "expected a whole key, as in ${model.d_model}")
        value: Any = self._root
        done: list[str] = []
        for key in re.sub(r"\[(\w+)\]", r".\1", dotted).split("."):
            held: Any = _ABSENT
            if isinstance(value, Mapping):
                held = cast(Mapping[str, Any], value).get(key, _ABSENT)
            elif isinstance(value, list) and key.isdecimal():
                held = dict(enumerate(cast(list[Any], value))).get(int(key), _ABSENT)
            if held is _ABSENT:
                return self._default(dotted, reader)
            place = place_of(value, key, f"{'.'.join(done)}." if done else "")
            done.append(key)
            value = held
            if not isinstance(value, Mapping):
                value = self._value(value, ".".join(done), _Reader(place, reader.pending))
        if isinstance(value, Mapping):
            return self.tree(cast(Mapping[str, Any], value), f"{dotted}.", reader.pending)
        return value

    def _default(self, dotted: str, reader: _Reader) -> Any:
        value = _default_of(self._schema, dotted.split("."))
        if value is _ABSENT:
            known = sorted({*_tree_keys(self._root), *_schema_keys(self._schema)})
            raise reader.refuse(dotted, f"no such key; {nearest(dotted, known)}")
        return value

    def _argument(self, argument: str, reader: _Reader) -> Any:
        text = argument.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            return self._text(text[1:-1], reader)
        return None if text == "null" else self._text(text, reader)

    def _environment(self, reader: _Reader, expression: str, arguments: Sequence[str]) -> Any:
        name = str(self._argument(arguments[0], reader))
        if name in os.environ:
            return os.environ[name]
        if len(arguments) > 1:
            return self._argument(",".join(arguments[1:]), reader)
        if self._dry:
            return self._left(reader, expression, f"environment variable {name} is not set")
        raise reader.refuse(
            expression,
            f"environment variable {name} is not set; ${{oc.env:{name},x}} defaults to x",
        )

    def _choose(self, reader: _Reader, expression: str, arguments: Sequence[str]) -> str:
        paths = [str(self._argument(argument, reader)) for argument in arguments]
        if self._dry:
            log.info("%s: a dry run looks at no disk: took the first, %s", reader.place, paths[0])
            return paths[0]
        for path in paths:
            if is_remote(path) or Path(path).exists():
                return path
        raise reader.refuse(expression, f"none of these exists: {', '.join(paths)}")

    def _glob(self, reader: _Reader, expression: str, arguments: Sequence[str]) -> list[str]:
        patterns = [str(self._argument(argument, reader)) for argument in arguments]
        if self._dry:
            return [self._left(reader, expression, "a dry run looks at no disk")]
        found: list[str] = []
        for pattern in patterns:
            matches = sorted(glob.glob(pattern))
            if not matches:
                raise reader.refuse(expression, f"no file matches {pattern}")
            found += matches
        return found

    def _last_checkpoint(self, reader: _Reader, expression: str, arguments: Sequence[str]) -> str:
        folder = str(self._argument(arguments[0], reader))
        if self._dry:
            return self._left(reader, expression, "a dry run looks at no disk")
        if is_remote(folder):
            raise reader.refuse(
                expression, f"{folder} cannot be searched; write the checkpoint's own address"
            )
        found = [
            ((int(match[1]), match[2] is None), path)
            for base in (Path(folder), Path(folder, "checkpoints"))
            for path in base.glob("step*")
            if (match := _CHECKPOINT.fullmatch(path.name)) and path.is_dir()
        ]
        if not found:
            raise reader.refuse(expression, f"{folder}: no checkpoint step… there")
        return str(max(found)[1])

    def _left(self, reader: _Reader, expression: str, why: str) -> str:
        log.info("%s: ${%s} is left as it is written: %s", reader.place, expression, why)
        return f"${{{expression}}}"


def _closing(text: str, start: int, reader: _Reader) -> int:
    """The place of the brace that closes the interpolation at `start`."""
    depth = 0
    for position in range(start + 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ConfigError(f"{reader.place}: {text!r}: '${{' without its '}}'")


def _split(text: str, separator: str, most: int = 0) -> list[str]:
    """Split outside of braces and quotes, `most` times (0: always)."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == separator and depth == 0 and not (most and len(parts) > most):
                parts.append("")
                continue
        parts[-1] += character
    return parts


def _default_of(schema: Any, keys: Sequence[str]) -> Any:
    """The default of a dotted key of a dataclass; `_ABSENT` where there is none."""
    fields = {field.name: field for field in dataclasses.fields(schema)}
    field = fields.get(keys[0])
    if field is None:
        return _ABSENT
    if len(keys) > 1:
        section = _section(get_type_hints(schema)[keys[0]])
        return _ABSENT if section is None else _default_of(section, keys[1:])
    if field.default is not dataclasses.MISSING:
        return field.default
    return _ABSENT  # a section as a whole: no file refers to one that it does not write


def _tree_keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += _tree_keys(cast(Mapping[str, Any], value), f"{keys[-1]}.")
    return keys


def _schema_keys(schema: Any, prefix: str = "") -> list[str]:
    hints = get_type_hints(schema)
    keys: list[str] = []
    for field in dataclasses.fields(schema):
        section = _section(hints[field.name])
        keys.append(f"{prefix}{field.name}")
        keys += _schema_keys(section, f"{keys[-1]}.") if section else []
    return keys


def _section(hint: Any) -> Any:
    """The dataclass among the choices of a type, or None."""
    return next((c for c in (hint, *get_args(hint)) if dataclasses.is_dataclass(c)), None)
