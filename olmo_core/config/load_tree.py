"""YAML as it stands in a file: mappings that remember where each of their keys was written."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from olmo_core.errors import ConfigError

# libyaml's loader is ten times faster on the 1,100-line official files; it is optional in PyYAML.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ABSENT: Any = object()  # in place of a value: the key is not given


class Tree(dict[str, Any]):
    """A mapping read from `file` that remembers each key's place: `file:line`, or what set it."""

    def __init__(
        self, values: Mapping[str, Any], *, file: str, places: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(values)
        self.file = file
        self.places = dict(places or {})

    def place(self, key: str) -> str:
        """Return the place of a key; the file where no more is known."""
        return self.places.get(key, self.file)

    def changed(self, change: Callable[[str, str, Any], Any], prefix: str = "") -> "Tree":
        """Return the tree with other values, each at its old place.

        Args:
            change: Called with the dotted name of a key, its place and its value. Returns the new
                value; `ABSENT` to leave the key out; a tree as it is to change what is in it.
            prefix: Of the dotted names: the way to this tree.
        """
        values: dict[str, Any] = {}
        for key, value in self.items():
            dotted = f"{prefix}{key}"
            new = change(dotted, f"{self.place(key)}: {dotted}", value)
            if new is value and isinstance(value, Tree):
                new = value.changed(change, f"{dotted}.")
            if new is not ABSENT:
                values[key] = new
        return Tree(values, file=self.file, places=self.places)


def merge(base: Tree, changes: Tree) -> Tree:
    """Return `base` with `changes` in it: mappings merge by key, every other value replaces.

    Null in place of a mapping takes it out.
    """
    merged = Tree(base, file=base.file, places=base.places)
    for key, value in changes.items():
        below = base.get(key)
        if isinstance(below, Tree) and value is None:
            del merged[key]
            continue
        if isinstance(below, Tree) and isinstance(value, Tree):
            value = merge(below, value)
        merged[key] = value
        merged.places[key] = changes.place(key)
    return merged


class _LocatedLoader(_BaseLoader):
    """A safe loader whose mappings are `Tree`s; a key given twice is an error."""


def _construct_tree(loader: Any, node: yaml.MappingNode) -> Tree:
    file = loader.file
    loader.flatten_mapping(node)
    tree = Tree({}, file=file)
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        place = f"{file}:{key_node.start_mark.line + 1}"
        if key in tree:
            first = tree.place(key).removeprefix(f"{file}:")
            raise ConfigError(f"{place}: key {key!r} is given twice (first on {first})")
        tree[key], tree.places[key] = loader.construct_object(value_node, deep=True), place
    return tree


def _construct_int(loader: Any, node: yaml.ScalarNode) -> int:
    if ":" in node.value:  # 24:00:00 would silently become 86,400
        place = f"{loader.file}:{node.start_mark.line + 1}"
        raise ConfigError(f"{place}: {node.value}: YAML reads this to the base 60; write a number")
    return loader.construct_yaml_int(node)


_LocatedLoader.add_constructor("tag:yaml.org,2002:map", _construct_tree)
_LocatedLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_tree(text: str, file: str) -> Any:
    """Return the content of a text; `file` is the name that errors give."""
    loader = _LocatedLoader(text)
    loader.file = file
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
