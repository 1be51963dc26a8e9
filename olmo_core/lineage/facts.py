"""What a run's folder says of its data and of where it ran: facts that two runs may differ in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from olmo_core.checkpoint.layout import MANIFEST, list_checkpoints
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder

# Of a training's config.yaml: names of places, which differ from run to run.
PLACES = ("run_name", "save_folder", "load_path", "remote_save_folder")
PLACES_OF_CORE = ("manifest", "roots")


def order_of(run: RunFolder, step: int | None = None) -> dict[str, Any]:
    """Return the order in which a training reads its data, and how many epochs that is.

    Empty where nothing is recorded: of a run that is no training, or has no checkpoint yet.

    Args:
        run: The folder.
        step: Up to which epochs are counted; None: the last one.
    """
    data: Mapping[str, Any] = {}
    if run.finished:
        data = run.read_result()["report"]["data"]
    elif whole := [each for each in list_checkpoints(run.path) if (each.path / MANIFEST).is_file()]:
        data = whole[-1].read_train()
    order: Mapping[str, Any] | None = data.get("order")
    if order is None:
        return {}
    steps = data["step"] if step is None else step
    found = {key: value for key, value in order.items() if key != "origin"}
    if order["windows"]:
        found["epochs"] = round(steps * order["global_batch_size"] / order["windows"], 4)
    return found


def tokens_by_source(run: RunFolder) -> dict[str, int]:
    """Return the tokens of each source in a mix; empty for a run that is none."""
    data: Mapping[str, Any] = run.read_result()["report"]["data"] if run.finished else {}
    return dict(data["tokens"]) if "manifest_sha256" in data and "tokens" in data else {}


def environment_of(run: RunFolder) -> dict[str, Any]:
    """Return where and with what a run was made: ranks, threads, host, device, versions, commit.

    `config` are those keys of a training that only place or watch it.
    """
    launch = run.read(run.launch) or {}
    job: Mapping[str, Any] = launch.get("run") or {}
    code: Mapping[str, Any] = launch.get("code") or {}
    found: dict[str, Any] = {
        "engine": launch.get("engine"),
        "host": launch.get("host"),
        "nodes": job.get("nodes"),
        "ranks_per_node": job.get("processes_per_node"),
        "threads": job.get("threads"),
        "versions": dict(launch.get("versions") or {}),
        "commit": code.get("commit"),
        "uncommitted_changes": code.get("dirty"),
    }
    if run.finished:
        found["device"] = run.read_result().get("device")
    if job.get("module") == TRAINING:
        found["config"] = _placement(run.config, launch)
    return found


def _placement(path: Path, launch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a training's configuration that bear no identity, places left out."""
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    identity: Mapping[str, Any] = launch.get("parts", {}).get("config", {})
    found = {
        key: value for key, value in config.items() if key not in identity and key not in PLACES
    }
    known: Mapping[str, Any] = identity.get("core", {})
    found["core"] = {
        key: value
        for key, value in config.get("core", {}).items()
        if key not in known and key not in PLACES_OF_CORE
    }
    return found
