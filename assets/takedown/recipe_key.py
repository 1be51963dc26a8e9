"""Add a key to a mapping in a YAML file: as text, so that comments and the order of keys stay."""

from pathlib import Path
from typing import Any, cast

import yaml

from olmo_core.config.load_tree import Tree, read_tree
from olmo_core.errors import ConfigError
from olmo_core.files import write_atomic


def add_source_key(file: Path, source: str, key: str, value: str) -> None:
    """Add a key to the source of that name, in `raw.sources` of a corpus.yaml.

    The file is written only if nothing but that key has changed in it.

    Args:
        file: The corpus.yaml.
        source: Its name.
        key: Which it does not have.
        value: Letters, digits, `.`, `_`, `-` and `/`.

    Raises:
        ConfigError: its YAML is such that a line cannot be added; says which one to add by hand.
    """
    text = file.read_bytes().decode()
    line = f"{key}: {value}"
    by_hand = (
        f"{file}: source {source}: add this line to its mapping in raw.sources by hand: {line}"
    )
    wanted = _unshared(read_tree(text, str(file)))  # an alias is another mapping, and stays
    entries = [entry for entry in wanted["raw"]["sources"] if entry["name"] == source]
    if len(entries) != 1 or key in entries[0]:
        raise ConfigError(by_hand)
    entries[0][key] = value
    parser: Any = yaml  # whose types are not whole
    name = _name_node(parser.compose(text, Loader=yaml.SafeLoader), source)
    if name is None:
        raise ConfigError(by_hand)
    mapping, first, scalar = name
    newline = "\r\n" if "\r\n" in text else "\n"
    if mapping.flow_style:
        at, added = scalar.end_mark.index, f", {line}"
    else:
        at = text.find("\n", scalar.end_mark.index)
        at = len(text) if at < 0 else at - (text[at - 1] == "\r")  # behind a comment, if any
        added = f"{newline}{' ' * first.start_mark.column}{line}"
    changed = text[:at] + added + text[at:]
    try:
        same = read_tree(changed, str(file)) == wanted
    except (yaml.YAMLError, ConfigError):
        same = False
    if not same:
        raise ConfigError(by_hand)
    write_atomic(file, changed)


def _unshared(value: Any) -> Any:
    if isinstance(value, Tree):
        return {name: _unshared(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_unshared(each) for each in cast("list[Any]", value)]
    return value


def _name_node(document: Any, source: str) -> tuple[Any, Any, Any] | None:
    """Return the mapping of a source, and key and value of its `name`, as nodes with places."""
    for entry in _value(_value(document, "raw"), "sources").value:
        for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
            if key.value == "name" and value.value == source:
                return entry, key, value
    return None


def _value(mapping: Any, key: str) -> Any:
    return next(value for name, value in mapping.value if name.value == key)
