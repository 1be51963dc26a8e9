"""YAML as it stands in a file: mappings that remember where each of their keys was written."""

from collections.abc import Mapping
from typing import Any

import yaml

from olmo_core.errors import ConfigError

# libyaml's loader is ten times faster on the 1,100-line official files; it is optional in PyYAML.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


OVERRIDE = 0  # in place of a line: the key was given by an override


class Tree(dict[str, Any]):
    """A mapping read from a file that remembers the file and the line of each of its keys.

    `files` names the file of each key that stands in another one than `file`.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        file: str,
        lines: Mapping[str, int],
        files: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(values)
        self.file = file
        self.lines = dict(lines)
        self.files = dict(files or {})

    def place(self, key: str) -> str:
        """Return `file:line` of a key, as far as they are known; else what overrode it."""
        line = self.lines.get(key)
        if line == OVERRIDE:
            return self.files.get(key) or "override"
        return self.files.get(key, self.file) + (f":{line}" if line else "")

    def like(self, values: Mapping[str, Any]) -> "Tree":
        """Return a tree of other values whose keys stand where this tree's keys stand."""
        return Tree(values, file=self.file, lines=self.lines, files=self.files)


def merge(base: Tree, changes: Tree) -> Tree:
    """Return `base` with `changes` in it: mappings merge by key, every other value replaces.

    Null in place of a mapping takes it out.
    """
    merged = base.like(base)
    for key, value in changes.items():
        below = base.get(key)
        if isinstance(below, Tree) and value is None:
            del merged[key]
            continue
        if isinstance(below, Tree) and isinstance(value, Tree):
            value = merge(below, value)
        merged[key] = value
        merged.files[key] = changes.files.get(key) or changes.file
        merged.lines[key] = changes.lines[key]
    return merged


class _LocatedLoader(_BaseLoader):
    """A safe loader whose mappings are `Tree`s; a key given twice is an error."""


def _construct_tree(loader: Any, node: yaml.MappingNode) -> Tree:
    file = str(getattr(loader, "olmo_file", "<string>"))
    loader.flatten_mapping(node)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        line = key_node.start_mark.line + 1
        if key in values:
            raise ConfigError(f"{file}:{line}: key {key!r} is given twice (first on {lines[key]})")
        values[key] = loader.construct_object(value_node, deep=True)
        lines[key] = line
    return Tree(values, file=file, lines=lines)


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    if ":" in node.value:  # 24:00:00 would silently become 86,400
        place = f"{getattr(loader, 'olmo_file', '<string>')}:{node.start_mark.line + 1}"
        raise ConfigError(f"{place}: {node.value}: YAML reads this to the base 60; write a number")
    return loader.construct_yaml_int(node)


_LocatedLoader.add_constructor("tag:yaml.org,2002:map", _construct_tree)
_LocatedLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_tree(text: str, file: str) -> Any:
    """The content of a text; `file` is the name that errors give."""
    loader = _LocatedLoader(text)
    loader.olmo_file = file
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
