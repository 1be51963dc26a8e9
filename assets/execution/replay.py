"""Replay trainings: launch one where trainings are launched, follow it, compare, keep what it said.

`<root>/.replays/<recipe>/<asset>/<version>/<code>/<steps>/replay.json`, one per replay.
"""

import datetime
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assets.execution.follow import JobFailed, Meanwhile, follow, nothing, submit_patiently
from assets.execution.hold import results_held
from assets.fingerprint import sha256_json
from assets.launcher import Launch, Launcher, Observer, Refused
from olmo_core import environment
from olmo_core.checkpoint.layout import CHECKPOINTS
from olmo_core.files import write_json
from olmo_core.lineage.compare_replay import Replay, compare, described
from olmo_core.lineage.replay import Stretch, prepare
from olmo_core.run.code import TRAINING, code_hashes
from olmo_core.run.folder import SCHEMA_VERSION, RunFolder

FOLDER = ".replays"  # no recipe's name begins with a dot
RECORD = "replay.json"
ENDING_SECONDS = 20.0


def replay_folder(root: Path, recipe: str, asset: str, stretch: Stretch) -> Path:
    """Return where the steps of a run are replayed by the code as it is now."""
    code = sha256_json(code_hashes(TRAINING))[:12]
    return root / FOLDER / recipe / asset / stretch.run.path.name / code / stretch.name


def replay(
    recipe: str,
    asset: str,
    stretch: Stretch,
    root: Path,
    launcher: Launcher,
    observer: Observer,
    meanwhile: Meanwhile = nothing,
) -> Replay:
    """Make the steps of a run again, compare them, and keep the record.

    `meanwhile` is called while it waits, and may end it by an exception.

    Raises:
        Refused: the same replay is at work.
        JobFailed: its job has ended without a result.
        InputError: the run lacks what a replay needs.
    """
    folder = RunFolder(replay_folder(root, recipe, asset, stretch))
    deadline = time.monotonic() + ENDING_SECONDS
    while folder.finished and launcher.state(folder).alive and time.monotonic() < deadline:
        time.sleep(0.1)  # the same replay has just ended, its supervisor not yet
    if launcher.state(folder).alive:
        raise Refused(f"{folder.path}: these steps are being replayed by another process")
    name = f"{asset} {stretch.name}"
    with results_held(root):
        launch = Launch(
            folder=folder,
            module=TRAINING,
            stage="train",
            config=prepare(stretch, folder.path),
            identity={"recipe": recipe, "asset": asset, "partition": None},
            distributed=True,
            environment={environment.ROOT: str(root)},
        )
        submit_patiently(launcher, {name: launch}, observer, meanwhile)
    observer.started(name, folder, "launched")
    [(_, ended)] = follow({name: folder}, launcher, observer, meanwhile)
    if isinstance(ended, JobFailed):
        raise ended
    found = compare(stretch, folder.path)
    write_json(folder.path / RECORD, record_of(stretch, found))
    for made in (CHECKPOINTS, "model"):  # as large as the run's own; what they said is kept
        shutil.rmtree(folder.path / made, ignore_errors=True)
    return found


def record_of(stretch: Stretch, found: Replay) -> Mapping[str, Any]:
    """Return what is kept of a replay, as another program reads it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(stretch.run.path),
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "said": described(found),
        "bitwise": found.bitwise,
        "within_tolerance": found.within_tolerance,
        **asdict(found),
    }
