"""What Dagster was last seen to know: where nothing is to be made, `olmo run` starts without it.

Importing Dagster and opening its databases are most of such a run's time.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assets.fingerprint import Fingerprint
from assets.graph import Graph
from assets.paths import CHECKOUT, dagster_home, root
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json

State = list[int]  # of Dagster's event log: the last event's number, and how many there are


def reported_as(identity: Fingerprint) -> list[str | None]:
    """Return the data version that Dagster is told, and by whose word the result is accepted."""
    return [identity.value, str(identity.accepted) if identity.accepted else None]


def log_state() -> State | None:
    """Return where Dagster's event log stands, of which a wipe removes; None if it is not SQLite's.

    An instance that is configured otherwise than by the checkout's file may keep its log elsewhere.
    """
    home = dagster_home()
    if (home / "dagster.yaml").resolve() != CHECKOUT / "dagster.yaml":
        return None
    source = f"{(home / 'history/runs/index.db').as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(source, uri=True)) as connection:
            return [*connection.execute("SELECT max(id), count(*) FROM event_logs").fetchone()]
    except sqlite3.Error:  # not there, or busy: Dagster itself is asked then
        return None


def remember(graph: Graph, selected: Sequence[str], state: State | None) -> None:
    """Save that Dagster knew the selected assets as finished when its log stood so."""
    known = {name: [state, *reported_as(graph.fingerprints[name])] for name in selected}
    with contextlib.suppress(OSError):  # it only saves time
        write_json(_memory(graph), known if state else {})


def nothing_to_do(graph: Graph, selected: Sequence[str]) -> bool:
    """Return whether the selected assets are finished, and Dagster has heard nothing since then."""
    try:
        memory, state = read_json(_memory(graph)), log_state()
        return state is not None and all(
            memory.get(name) == [state, *reported_as(graph.fingerprints[name])]
            and graph.finished(root(), name) is not None
            for name in selected
        )
    except (OSError, InputError):  # no run before, or a folder that Dagster's side will name
        return False


def _memory(graph: Graph) -> Path:
    return dagster_home() / "reported" / f"{graph.recipe.name}.json"
