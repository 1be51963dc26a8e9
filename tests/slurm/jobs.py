"""Toy jobs on the cluster of the tests: launched, waited for, looked at."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assets.launcher import Launch
from olmo_core.run.folder import RunFolder
from pipelines.launchers.slurm.launcher import SlurmLauncher
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.slurm.cluster import Cluster

WAIT_SECONDS = 90.0
POLL_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Toys:
    """Launches of the toy job below one root, and the launcher of the cluster."""

    cluster: Cluster
    root: Path

    def launcher(self, *, poll_seconds: float = POLL_SECONDS, **work: Any) -> SlurmLauncher:
        """A launcher of its own, as another process would have one."""
        slurm = SlurmSite(
            poll_seconds=poll_seconds, signal_seconds=30, pass_environment=("PYTHONPATH",)
        )
        corpus = ResourceSpec(engine="slurm", **{"cpus_per_node": 1, **work})
        return SlurmLauncher(site=Site(slurm=slurm, work={"corpus": corpus}))

    def launch(self, name: str, **config: Any) -> Launch:
        """A job whose folder is `<root>/toy/<name>/0`."""
        return Launch(
            folder=RunFolder(self.root / "toy" / name / "0"),
            module="toy_job",
            stage="corpus",
            config={"config": config, "inputs": {}},
            identity={"recipe": "toy", "asset": "first", "fingerprint": name},
            environment={"OLMO_ROOT": str(self.root)},
        )

    def read(self, launch: Launch) -> Mapping[str, Any]:
        content = launch.folder.read(launch.folder.launch)
        assert content is not None
        return content


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Wait for something to become true; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.05)
    return found


def ended(launcher: SlurmLauncher, launch: Launch) -> Any:
    """The state in which a job ends."""

    def look() -> Any:
        state = launcher.state(launch.folder)
        return None if state.alive else state

    return until(look, f"{launch.folder.path}: its end")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def set_up(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    """Make this process a client of the cluster."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
