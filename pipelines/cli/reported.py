"""What Dagster was last seen to know: where nothing is to be made, `olmo run` starts without it.

Importing Dagster and opening its databases are most of such a run's time.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.paths import dagster_home, root
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json


def reported_as(identity: Fingerprint) -> list[str | None]:
    """Return the data version that Dagster is told, and by whose word the result is accepted."""
    return [identity.value, str(identity.accepted) if identity.accepted else None]


def last_event() -> int | None:
    """Return the number of the last event in Dagster's log; None where it is not SQLite's."""
    database = dagster_home() / "history/runs/index.db"
    with contextlib.suppress(sqlite3.Error):  # not there, or busy: Dagster itself is asked then
        source = f"{database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(source, uri=True)) as connection:
            return connection.execute("SELECT max(id) FROM event_logs").fetchone()[0]
    return None


def remember(graph: Graph, selected: Sequence[str], event: int | None) -> None:
    """Save that Dagster knew the selected assets as finished when `event` was its last one."""
    if event is not None:
        known = {name: reported_as(graph.fingerprints[name]) for name in selected}
        write_json(_memory(graph), {"event": event, "assets": known})


def is_reported(graph: Graph, selected: Sequence[str]) -> bool:
    """Return whether the selected assets are finished, and Dagster has heard nothing since then."""
    try:
        memory = read_json(_memory(graph))
        return memory["event"] == last_event() and all(
            memory["assets"].get(name) == reported_as(graph.fingerprints[name])
            and graph.finished(root(), name) is not None
            for name in selected
        )
    except (OSError, InputError):  # no run before, or a folder that Dagster's side will name
        return False


def _memory(graph: Graph) -> Path:
    return dagster_home() / "reported" / f"{graph.recipe.name}.json"
