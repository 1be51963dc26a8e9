"""Acceptances: a person says that what a result would be made of now is equivalent to what it was.

One file per acceptance, below the writer's own root also where the result lies in a shared one:
`<root>/.accepted/<version as of now>.json`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION, read_versioned

FOLDER = ".accepted"  # no recipe's name begins with a dot
VERSION_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Who accepted what, when and why; `old` and `new` are records of fingerprints.

    `proof` is what replays of the result have found, one line each; without it only a word.
    """

    recipe: str
    asset: str
    who: str
    when: str  # ISO 8601, UTC
    because: str
    differences: list[str]
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    proof: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        proven = ", proven by replay" if self.proof else ""
        return f"accepted by {self.who} on {self.when[:10]}{proven}: {self.because}"


def read_acceptances(root: Path) -> dict[str, Acceptance]:
    """Return the acceptances of a root by the fingerprint that each maps to an older one.

    Raises:
        ValueError: a file is malformed or of another schema version.
    """
    found: dict[str, Acceptance] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        fields = read_versioned(path, "delete it to take the acceptance back")
        acceptance = Acceptance(**{k: v for k, v in fields.items() if k != "schema_version"})
        found[acceptance.new["fingerprint"]] = acceptance
    return found


def write_acceptance(root: Path, acceptance: Acceptance) -> None:
    """Keep an acceptance, whole or not at all."""
    write_json(_path(root, acceptance), {"schema_version": SCHEMA_VERSION, **asdict(acceptance)})


def remove_acceptance(root: Path, acceptance: Acceptance) -> None:
    """Take an acceptance back; whatever is at work goes on."""
    _path(root, acceptance).unlink(missing_ok=True)


def _path(root: Path, acceptance: Acceptance) -> Path:
    return root / FOLDER / f"{acceptance.new['fingerprint'][:VERSION_LENGTH]}.json"
