"""The site file: which engine runs each kind of work here, and on how many nodes.

`OLMO_SITE`, else `~/.config/olmo/site.yaml`; where there is none, everything runs on this machine.
Recipes say nothing of engines, so that they never change for one. The keys: docs/launching.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from assets.launcher import Launch
from olmo_core import environment
from olmo_core.config.load import build, load, nearest, place_in
from olmo_core.errors import ConfigError
from olmo_core.forecast.figures import PlaceEnergyConfig, PricesConfig
from olmo_core.monitor.devices import NAMES, known_device
from pipelines import names
from pipelines.site.rules import Problem, allow, placed, problems, within, work_problems

EngineName = Literal["local", "slurm", "kubernetes"]

MONTH_MINUTES = 31 * 24 * 60
DAY_SECONDS = 24 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class ResourceSpec:
    """How one kind of work runs: the engine, and the shape of the job."""

    engine: EngineName = "local"
    nodes: int = field(default=1, metadata=within(1, 100_000))
    # Ranks of a distributed job; others are one process.
    processes_per_node: int = field(default=1, metadata=within(1, 1_024))
    devices_per_node: int = field(default=0, metadata=within(0, 1_024))  # GPUs
    # Which, as in NVIDIA H100: a forecast goes by its peak FLOP/s and its power. One of a table.
    device: str | None = None
    # All that the engine gives, if not said.
    cpus_per_node: int | None = field(default=None, metadata=within(1, 100_000))
    memory_gib_per_node: int | None = field(default=None, metadata=within(1, 1_000_000))
    time_limit_minutes: int | None = field(default=None, metadata=within(1, 3 * MONTH_MINUTES))
    # Without progress, after which a job is ended and resumed.
    stall_timeout_minutes: float = field(default=30.0, metadata=within(0.05, MONTH_MINUTES))
    # In a row without a new checkpoint, after which the job is given up.
    max_failures: int = field(default=3, metadata=within(1, 1_000))
    # Further nodes of the same shape that do tasks of a corpus job, as they come.
    workers: int = field(default=0, metadata=within(0, 256))
    # Instead of the engine's.
    partition: str | None = field(default=None, metadata=allow(names.TOKENS))


@dataclass(frozen=True, kw_only=True)
class SlurmSite:
    """What Slurm wants to know here; each value is checked, and never reaches a shell."""

    partition: str | None = field(default=None, metadata=allow(names.TOKENS))
    account: str | None = field(default=None, metadata=allow(names.TOKEN))
    qos: str | None = field(default=None, metadata=allow(names.TOKEN))
    constraint: str | None = field(default=None, metadata=allow(names.CONSTRAINT))
    reservation: str | None = field(default=None, metadata=allow(names.TOKENS))
    # `module load`ed in the batch script.
    modules: tuple[str, ...] = field(default=(), metadata=allow(names.MODULE))
    # An image for Pyxis, or a .sif file for Apptainer.
    container: str | None = field(default=None, metadata=allow(names.IMAGE))
    mounts: tuple[str, ...] = field(default=(), metadata=allow(names.MOUNT))  # of the container
    # On the nodes; the submitter's own, if not said.
    python: str | None = field(default=None, metadata=allow(names.PROGRAM))
    environment: Mapping[str, str] = field(
        default_factory=dict[str, str],
        metadata=allow(names.VALUE, keys=names.VARIABLE, secrets="name it in pass_environment"),
    )
    # Names: their values go with the job, into no file.
    pass_environment: tuple[str, ...] = field(default=(), metadata=allow(names.VARIABLE))
    # Before the time limit: a checkpoint must fit into it. Slurm takes no more.
    signal_seconds: int = field(default=120, metadata=within(10, 65_535))
    # One squeue each for all that is followed on this machine.
    poll_seconds: float = field(default=10.0, metadata=within(0.1, DAY_SECONDS))


@dataclass(frozen=True, kw_only=True)
class KubernetesSite:
    """What Kubernetes wants to know here."""

    image: str = field(metadata=allow(names.IMAGE))
    namespace: str = field(default="default", metadata=allow(names.DNS_LABEL))
    # Of the kubeconfig; in a pod, its own service account.
    context: str | None = field(default=None, metadata=allow(names.CONTEXT))
    # What keeps the pods of one job together; a job of one pod needs neither.
    kind: Literal["jobset", "trainjob"] = "jobset"
    # The persistent volume claim that holds the root of results, and where pods mount it.
    claim: str = field(metadata=allow(names.DNS_NAME))
    root: str = field(default="/olmo", metadata=allow(names.ABSOLUTE))
    service_account: str | None = field(default=None, metadata=allow(names.DNS_NAME))
    node_selector: Mapping[str, str] = field(
        default_factory=dict[str, str],
        metadata=allow(names.LABEL_VALUE, keys=names.LABEL_NAME),
    )
    queue: str | None = field(default=None, metadata=allow(names.DNS_NAME))  # Kueue's local queue
    # Names of Kubernetes secrets that become the environment.
    secrets: tuple[str, ...] = field(default=(), metadata=allow(names.DNS_NAME))
    environment: Mapping[str, str] = field(
        default_factory=dict[str, str],
        metadata=allow(
            names.VALUE, keys=names.VARIABLE, secrets="put it into one of the cluster's `secrets`"
        ),
    )
    # From the request to end until the kill: a checkpoint must fit into it.
    grace_seconds: int = field(default=300, metadata=within(10, DAY_SECONDS))
    poll_seconds: float = field(default=10.0, metadata=within(0.1, DAY_SECONDS))


@dataclass(frozen=True, kw_only=True)
class DaskSite:
    """How the tasks of a job are shared among nodes."""

    # Of a scheduler that is there already; else each job with workers runs one.
    address: str | None = field(default=None, metadata=allow(names.DASK_ADDRESS))
    allow_unencrypted: bool = False  # an address tcp://…
    # On 127.0.0.1 of the job's node; without it there is no dashboard.
    dashboard_port: int | None = field(default=None, metadata=within(1, 65_535))

    @property
    def variables(self) -> dict[str, str]:
        """What a job that shares its tasks is told, as environment variables."""
        values = {
            environment.DASK_ADDRESS: self.address,
            environment.DASK_DASHBOARD: self.dashboard_port,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class AlertsSite:
    """Where alerts go, and when a job counts as stalled (docs/alerts.md)."""

    # The environment variable that holds the webhook's address, which is a secret.
    url_variable: str = field(metadata=allow(names.SECRETS_VARIABLE))
    format: Literal["json", "slack"] = "json"
    # Without a step or other progress, though the job is at work.
    stall_minutes: float = field(default=30.0, metadata=within(1, MONTH_MINUTES))


class SiteError(ConfigError):
    """A site file with invalid values; `problems` says which."""

    def __init__(self, found: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in found))
        self.problems = found


@dataclass(frozen=True, kw_only=True)
class Site:
    """The whole site file. `work` goes by `<recipe>/<asset>`, `<asset>` or stage, first match.

    Raises:
        SiteError: a value that no engine could be given.
    """

    slurm: SlurmSite | None = None
    kubernetes: KubernetesSite | None = None
    dask: DaskSite = field(default_factory=DaskSite)
    alerts: AlertsSite | None = None
    energy: PlaceEnergyConfig = field(default_factory=PlaceEnergyConfig)
    prices: PricesConfig | None = None
    work: Mapping[str, ResourceSpec] = field(default_factory=dict[str, ResourceSpec])

    def __post_init__(self) -> None:
        """Refuse what a shell, an engine or a path could take for something else."""
        found = [*problems(self), *_contradictions(self)]
        if found:
            raise SiteError(found)

    def work_of(self, launch: Launch) -> ResourceSpec:
        """Return how a launch runs here: one process where it has no ranks, workers for tasks."""
        recipe, asset = launch.names
        keys = (f"{recipe}/{asset}", asset, launch.stage)
        work = next((self.work[key] for key in keys if key in self.work), ResourceSpec())
        if not launch.distributed:
            work = replace(work, nodes=1, processes_per_node=1)
        return work if launch.shares_tasks else replace(work, workers=0)


def _contradictions(site: Site) -> Iterator[Problem]:
    """Yield each value that another one rules out."""
    if (site.dask.address or "").startswith("tcp://") and not site.dask.allow_unencrypted:
        yield Problem(
            ("dask", "address"),
            f"found '{site.dask.address}', over which anybody on the network could run code as "
            "you; expected tls://…, or allow_unencrypted: true where the network is your own",
        )
    for name, work in site.work.items():
        for key, message in _refused_keys(site, work):
            yield Problem(("work", name, key), message)


def _refused_keys(site: Site, work: ResourceSpec) -> Iterator[tuple[str, str]]:
    """Yield each key of a shape that cannot stand beside the others, and why."""
    engine, workers = work.engine, work.workers
    if engine != "local" and getattr(site, engine) is None:
        yield (
            "engine",
            f"found '{engine}', but the file has no section {engine}; add one, if only an empty "
            "one ({})",
        )
    if engine == "local" and work.nodes > 1:
        yield "nodes", f"found {work.nodes}; the local engine is one machine"
    if workers and engine != "slurm":
        yield "workers", f"found {workers}, but engine is '{engine}'; only slurm starts workers"
    if workers and site.dask.address:
        yield (
            "workers",
            f"found {workers}, but tasks go to the cluster of dask.address, which has workers of "
            "its own; expected 0",
        )
    ranks, devices = work.processes_per_node, work.devices_per_node
    if work.device is not None and not devices:
        yield "device", f"found '{work.device}', but devices_per_node is 0"
    elif work.device is not None and known_device(work.device) is None:
        yield (
            "device",
            f"found '{work.device}', of which nothing is known; {nearest(work.device, NAMES)}",
        )
    if 0 < devices < ranks:
        yield (
            "processes_per_node",
            f"found {ranks}; expected at most devices_per_node ({devices}), one rank per device",
        )


def load_site() -> Site:
    """Return the site file of this machine; everything local where there is none.

    Raises:
        ConfigError: the file is malformed, or OLMO_SITE names none.
    """
    named = environment.site_file()
    path = named or Path("~/.config/olmo/site.yaml").expanduser()
    if named is None and not path.exists():
        return Site()
    tree = load(path)
    if "://" in str(tree.get("alerts")):  # wherever in it: other errors would show what they found
        raise ConfigError(
            f"{place_in(tree, 'alerts')}: holds an address, which is a secret and belongs in no "
            "file; expected url_variable: the name of the environment variable that holds it"
        )
    try:
        site = build(Site, tree)
        if unknown := list(work_problems(site.work)):
            raise SiteError(unknown)
    except SiteError as error:
        raise ConfigError("\n".join(placed(tree, problem) for problem in error.problems)) from None
    return site
