"""What people have decided of results: pinned, published, and that a root is others' too.

`<root>/.pinned/<name>.json`, `<root>/.released/<name>/<when>.json`, `<root>/.shared`; no recipe's
name begins with a dot. A record names runs by their place below the root, as in
`demo/stage1/092d8a948985`.
"""

import datetime
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.launcher import Refused
from olmo_core.errors import ConfigError
from olmo_core.files import write_json
from olmo_core.run.folder import SCHEMA_VERSION, read_versioned

PINNED, RELEASED, SHARED = ".pinned", ".released", ".shared"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Who decided what of which runs, and when."""

    runs: tuple[str, ...]
    who: str
    when: str  # ISO 8601, UTC
    said: str  # why it is pinned; where it was published

    def __str__(self) -> str:
        return f"by {self.who} on {self.when[:10]}" + (f": {self.said}" if self.said else "")


def pin(root: Path, name: str, because: str) -> None:
    """Keep a run, and all that it depends on, until it is unpinned."""
    _write(root / PINNED / f"{name}.json", [name], because)


def unpin(root: Path, name: str) -> None:
    """Take a pin back.

    Raises:
        ConfigError: the run is not pinned.
    """
    record = root / PINNED / f"{name}.json"
    if not record.is_file():
        raise ConfigError(f"{name}: is not pinned")
    record.unlink()


def record_release(root: Path, runs: Sequence[Path], where: str) -> None:
    """Record that runs are being published; called before the first byte leaves.

    Runs of a shared root are for whoever keeps that one.
    """
    names = [str(run.relative_to(root)) for run in runs if run.is_relative_to(root)]
    if names:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
        _write(root / RELEASED / names[0] / f"{stamp}.json", names, where)


def pins(root: Path) -> list[Decision]:
    """Return what is pinned.

    Raises:
        ValueError: a record is malformed or of another schema version.
    """
    return _all(root / PINNED)


def releases(root: Path) -> list[Decision]:
    """Return what has been published.

    Raises:
        ValueError: a record is malformed or of another schema version.
    """
    return _all(root / RELEASED)


def require_own(root: Path) -> None:
    """Refuse a root that others use as a shared one.

    Raises:
        Refused: it is marked so.
    """
    marker = root / SHARED
    if marker.exists():
        said = (
            marker.read_text(encoding="utf-8", errors="replace").strip() if marker.is_file() else ""
        )
        first = f" ({said.splitlines()[0][:200]})" if said else ""
        raise Refused(
            f"{marker}{first}: this root is shared: others read its results, and what they depend "
            "on is not known here; nothing is taken away"
        )


def _write(record: Path, runs: Sequence[str], said: str) -> None:
    write_json(
        record,
        {
            "schema_version": SCHEMA_VERSION,
            "runs": [*runs],
            "who": getpass.getuser(),
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "said": said,
        },
    )


def _all(folder: Path) -> list[Decision]:
    found: list[Decision] = []
    for record in sorted(folder.rglob("*.json")):
        fields: dict[str, Any] = read_versioned(record, "mend it, or delete it to take it back")
        names = {key: str(fields[key]) for key in ("who", "when", "said")}
        found.append(Decision(runs=tuple(map(str, fields["runs"])), **names))
    return found
