"""`${…}` in a training file, as OmegaConf and the resolvers of OLMo's trainer read it.

`${a.b}` is the value of another key, `${name:a,b}` that of a resolver; both nest and stand inside
longer texts; `\\${` is a plain `${`. Source: OmegaConf's grammar, and `path.*` of allenai/OLMo
`olmo/config.py`.
"""

import glob
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from olmo_core.config.load import nearest, place_in
from olmo_core.config.load_tree import ABSENT, Tree
from olmo_core.errors import ConfigError
from olmo_core.remote.storage import is_remote

log = logging.getLogger("olmo")

_CHECKPOINT = re.compile(r"step(\d+)(-unsharded)?")


def interpolate(tree: Tree, *, root: Tree, schema: type, dry: bool = False) -> Tree:
    """Return a copy of `tree` with every interpolation replaced by its value.

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
    return tree.changed(_Reader(root, dict(_defaults(schema)), dry).at)


@dataclass(frozen=True)
class _Reader:
    """Reads one text: `place` says where it stands, `pending` which keys led to it."""

    root: Tree
    defaults: Mapping[str, Any]
    dry: bool
    place: str = ""
    pending: tuple[str, ...] = ()

    def at(self, dotted: str, place: str, value: Any) -> Any:
        return value if isinstance(value, Tree) else replace(self, place=place).value(value, dotted)

    def value(self, value: Any, dotted: str) -> Any:
        if isinstance(value, Tree):
            return value.changed(self.at, f"{dotted}.")
        if isinstance(value, list):
            items = cast(list[Any], value)
            return [self.value(item, f"{dotted}.{i}") for i, item in enumerate(items)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if dotted in self.pending:
            circle = " -> ".join((*self.pending[self.pending.index(dotted) :], dotted))
            raise ConfigError(f"{self.place}: refers to itself: {circle}")
        return replace(self, pending=(*self.pending, dotted)).text(value)

    def text(self, text: str) -> Any:
        """Return the value of a text: any type where it is one interpolation, else a text."""
        parts: list[Any] = []
        rest = text
        while "${" in rest:
            plain, opening, rest = re.split(r"(\\?\$\{)", rest, maxsplit=1)
            if opening != "${":
                parts.append(f"{plain}${{")
                continue
            end = self.closing(rest, text)
            value, rest = self.expression(rest[:end]), rest[end + 1 :]
            if not (parts or plain or rest):
                return value
            parts += [plain, value]
        parts.append(rest)
        for part in parts:
            if isinstance(part, Mapping | list):
                raise ConfigError(f"{self.place}: {text!r}: a part of a text cannot be {part!r}")
        return "".join(str(part) for part in parts)

    def closing(self, rest: str, text: str) -> int:
        """Return the place of the brace that closes the one before `rest`, the end of `text`."""
        depth = 1
        for position, character in enumerate(rest):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return position
        raise ConfigError(f"{self.place}: {text!r}: '${{' without its '}}'")

    def expression(self, expression: str) -> Any:
        name, colon, after = expression.partition(":")
        if not colon or "${" in name:
            return self.reference(str(self.text(expression)).strip())
        name, arguments = name.strip(), _split(after)
        if name == "oc.env":
            return self.environment(expression, arguments)
        if name not in _PATH_RESOLVERS:
            hint = nearest(name, ["oc.env", *_PATH_RESOLVERS])
            raise self.refused(expression, f"unknown resolver {name!r}; {hint}")
        paths = [str(self.argument(argument)) for argument in arguments]
        if self.dry and name == "path.choose":
            log.info("%s: a dry run looks at no disk: took the first, %s", self.place, paths[0])
            return paths[0]
        if self.dry:
            left = self.left(expression, "a dry run looks at no disk")
            return [left] if name == "path.glob" else left
        try:
            return _PATH_RESOLVERS[name](paths)
        except LookupError as error:
            raise self.refused(expression, str(error)) from None

    def reference(self, dotted: str) -> Any:
        if not dotted or dotted.startswith("."):
            raise self.refused(dotted, "expected a whole key, as in ${model.d_model}")
        value: Any = self.root
        way = ""
        for key in re.sub(r"\[(\w+)\]", r".\1", dotted).split("."):
            if isinstance(value, list):
                value = {str(i): item for i, item in enumerate(cast(list[Any], value))}
            if not isinstance(value, Mapping) or key not in value:
                value = self.defaults.get(dotted, ABSENT)
                if value is not ABSENT:
                    return value
                known = sorted({*_keys(self.root), *self.defaults})
                raise self.refused(dotted, f"no such key; {nearest(dotted, known)}")
            way = f"{way}.{key}" if way else key
            value = cast(Mapping[str, Any], value)[key]
            if not isinstance(value, Tree):
                value = replace(self, place=place_in(self.root, way)).value(value, way)
        return self.value(value, way) if isinstance(value, Tree) else value

    def argument(self, argument: str) -> Any:
        text = argument.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            return self.text(text[1:-1])
        return None if text == "null" else self.text(text)

    def environment(self, expression: str, arguments: Sequence[str]) -> Any:
        name = str(self.argument(arguments[0]))
        if name in os.environ:
            return os.environ[name]
        if len(arguments) > 1:
            return self.argument(",".join(arguments[1:]))
        problem = f"environment variable {name} is not set"
        if self.dry:
            return self.left(expression, problem)
        raise self.refused(expression, f"{problem}; ${{oc.env:{name},x}} defaults to x")

    def refused(self, expression: str, problem: str) -> ConfigError:
        return ConfigError(f"{self.place}: ${{{expression}}}: {problem}")

    def left(self, expression: str, why: str) -> str:
        log.info("%s: ${%s} is left as it is written: %s", self.place, expression, why)
        return f"${{{expression}}}"


def _choose(paths: Sequence[str]) -> str:
    for path in paths:
        if is_remote(path) or Path(path).exists():
            return path
    raise LookupError(f"none of these exists: {', '.join(paths)}")


def _glob(patterns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        matches = sorted(glob.glob(pattern))
        if not matches:
            raise LookupError(f"no file matches {pattern}")
        found += matches
    return found


def _last_checkpoint(paths: Sequence[str]) -> str:
    folder = paths[0]
    if is_remote(folder):
        raise LookupError(f"{folder} cannot be searched; write the checkpoint's own address")
    found = [
        ((int(match[1]), match[2] is None), path)
        for base in (Path(folder), Path(folder, "checkpoints"))
        for path in base.glob("step*")
        if (match := _CHECKPOINT.fullmatch(path.name)) and path.is_dir()
    ]
    if not found:
        raise LookupError(f"{folder}: no checkpoint step… there")
    return str(max(found)[1])


# Each takes the arguments; a LookupError is what the user is told.
_PATH_RESOLVERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "path.choose": _choose,
    "path.glob": _glob,
    "path.last_checkpoint": _last_checkpoint,
}


def _split(text: str) -> list[str]:
    """Split at the commas outside of braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == "," and depth == 0:
                parts.append("")
                continue
        parts[-1] += character
    return parts


def _defaults(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a dataclass and their defaults; `ABSENT` where there is none.

    A section as a whole has none: no file refers to one that it does not write.
    """
    hints = get_type_hints(schema)
    for field in fields(schema):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        yield key, ABSENT if field.default is MISSING else field.default
        for choice in (hint, *get_args(hint)):
            if is_dataclass(choice):
                yield from _defaults(choice, f"{key}.")


def _keys(tree: Tree, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Tree):
            yield from _keys(value, f"{prefix}{key}.")
