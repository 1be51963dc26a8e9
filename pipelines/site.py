"""The site file: which engine runs each kind of work here, and on how many nodes.

`OLMO_SITE`, else `~/.config/olmo/site.yaml`; where there is none, everything runs on this machine.
Recipes say nothing of engines, so that they never change for one. The keys: docs/launching.md.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from assets.launcher import Launch
from olmo_core.config.load import build, load

EngineName = Literal["local", "slurm", "kubernetes"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """How one kind of work runs: the engine, and the shape of the job."""

    engine: EngineName = "local"
    nodes: int = 1
    processes_per_node: int = 1  # ranks of a distributed job; others are one process
    devices_per_node: int = 0  # GPUs
    cpus_per_node: int | None = None  # all that the engine gives, if not said
    memory_gib_per_node: int | None = None
    time_limit_minutes: int | None = None
    hang_minutes: float = 30.0  # without progress, after which a job is ended and resumed
    most_failures: int = 3  # in a row without a new checkpoint, after which it is given up
    partition: str | None = None  # instead of the engine's


@dataclass(frozen=True, kw_only=True)
class SlurmSite:
    """What Slurm wants to know here; each value is checked, and never reaches a shell."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    modules: tuple[str, ...] = ()  # `module load`ed in the batch script
    container: str | None = None  # an image for Pyxis, or a .sif file for Apptainer
    mounts: tuple[str, ...] = ()  # of the container, SOURCE:TARGET
    python: str | None = None  # on the nodes; the submitter's own, if not said
    environment: Mapping[str, str] = field(default_factory=dict[str, str])  # no secrets
    pass_environment: tuple[str, ...] = ()  # names: their values go with the job, into no file
    signal_seconds: int = 120  # before the time limit: a checkpoint must fit into it
    poll_seconds: float = 10.0  # one squeue each for all that is followed on this machine


@dataclass(frozen=True, kw_only=True)
class KubernetesSite:
    """What Kubernetes wants to know here."""

    image: str
    namespace: str = "default"
    context: str | None = None  # of the kubeconfig; in a pod, its own service account
    kind: Literal["job", "trainjob"] = "job"
    claim: str  # the persistent volume claim that holds the root of results
    root: str = "/olmo"  # where pods mount it
    service_account: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict[str, str])
    queue: str | None = None  # Kueue's local queue
    secrets: tuple[str, ...] = ()  # names of Kubernetes secrets that become the environment
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    poll_seconds: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """The whole site file. `work` goes by `<recipe>/<asset>`, `<asset>` or stage, first match."""

    slurm: SlurmSite | None = None
    kubernetes: KubernetesSite | None = None
    work: Mapping[str, Work] = field(default_factory=dict[str, Work])

    def work_of(self, launch: Launch) -> Work:
        """How a launch runs here."""
        recipe, asset = launch.identity["recipe"], launch.identity["asset"]
        for name in (f"{recipe}/{asset}", asset, launch.stage):
            if name in self.work:
                return self.work[name]
        return Work()


def site_path() -> Path:
    """Where the site file is looked for."""
    return Path(os.environ.get("OLMO_SITE") or "~/.config/olmo/site.yaml").expanduser()


def load_site() -> Site:
    """The site file of this machine; everything local where there is none.

    Raises:
        ConfigError: the file is malformed, or OLMO_SITE names none.
    """
    path = site_path()
    if not path.exists() and not os.environ.get("OLMO_SITE"):
        return Site()
    return build(Site, load(path))
