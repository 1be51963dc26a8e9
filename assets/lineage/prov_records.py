"""Write PROV records: names, what several runs share once, and values that PROV has a form for."""

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prov.constants import XSD
from prov.identifier import QualifiedName
from prov.model import Literal, ProvDocument

from olmo_core.remote.address import mark

URN = "urn:olmo-pipelines:"
KINDS = ("run", "result", "checkpoint", "revision", "config", "code", "raw", "acceptance")
AGENTS = ("engine", "person")
MOST_XSD_INT = 2**31 - 1

Attributes = Mapping[str, Any]


class Records:
    """A PROV document that is being written."""

    def __init__(self, root: Path) -> None:
        self.document = ProvDocument()
        for prefix in ("olmo", *KINDS, *AGENTS):
            self.document.add_namespace(prefix, f"{URN}{prefix}:")
        self.document.add_namespace("pkg", "pkg:")  # package URLs (ECMA-427)
        self._root = root
        self._names: dict[Path, str] = {}
        self._written: set[str] = set()

    def name(self, folder: Path, relative: str) -> str:
        """Return the name of a run: recipe, asset, version; of another root also a mark of it."""
        if folder not in self._names:
            own = folder == self._root / relative
            self._names[folder] = relative if own else f"{relative}~{mark(str(folder))}"
        return quote(self._names[folder], safe="/@~")

    def has(self, name: str) -> bool:
        """Return whether an entity of this name is written."""
        return name in self._written

    def entity(self, name: str, attributes: Attributes) -> str:
        """Write an entity once, and return its name."""
        if name not in self._written:
            self._written.add(name)
            self.document.entity(name, known(attributes))
        return name

    def agent(self, name: str, kind: QualifiedName, label: str) -> None:
        """Write an agent once."""
        if name not in self._written:
            self._written.add(name)
            self.document.agent(name, {"prov:type": kind, "prov:label": label})


def known(attributes: Attributes) -> list[tuple[str, Any]]:
    """Return the attributes that have a value; lists and mappings as JSON."""
    return [(key, _literal(value)) for key, value in attributes.items() if value is not None]


def as_json(value: Any) -> str:
    """Return a value as JSON, the same for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _literal(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return as_json(value)
    if isinstance(value, int) and abs(value) > MOST_XSD_INT:
        return Literal(value, XSD["long"])
    return value


def package_url(name: str, version: str) -> str:
    """Return the package URL of a distribution, or of Python itself."""
    kind = "generic" if name == "python" else "pypi"
    return f"pkg:{kind}/{quote(name)}@{quote(version, safe='')}"


def sha256(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def moment(seconds: float | None) -> datetime.datetime | None:
    """Return a time of day, UTC, by seconds since 1970; None where it is not known."""
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
