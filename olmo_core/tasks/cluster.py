# pyright: basic
"""Processes of many nodes for the tasks of one job: Dask distributed, its scheduler in the job.

The job is the leader: it runs the scheduler and computes too. Other nodes run
`olmo_core.tasks.worker`, which finds the scheduler by a file in the run folder. Nothing waits for
them. Whoever connects, either way, needs the key that was made for this attempt.
"""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import uuid
from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask import config
from distributed import Client, Nanny, Scheduler, Security, SpecCluster, Worker, WorkerPlugin
from distributed.system import MEMORY_LIMIT
from distributed.utils import get_ip
from tornado.ioloop import PeriodicCallback

from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.files import read_json, write_json
from olmo_core.run.code import code_digest
from olmo_core.run.command import set_up_logging
from olmo_core.run.job import Job
from olmo_core.run.process import TreeUsage, die_with_parent, main_module

BUSY_SECONDS = 1.0  # between two looks whether processes compute

SETTINGS = {
    "distributed.comm.require-encryption": True,
    # A task goes to a process once it is free, so that none waits behind a long one.
    "distributed.scheduler.worker-saturation": 1.0,
    # A task is given up when so many of its processes were killed, for their memory say.
    "distributed.scheduler.allowed-failures": 10,
    # The HTTP servers, which Dask always starts, serve nothing unless a dashboard is asked for.
    "distributed.worker.http.routes": [],
    "distributed.nanny.http.routes": [],
}
NO_DASHBOARD = {"distributed.scheduler.http.routes": []}


@dataclass(frozen=True)
class SameCode(WorkerPlugin):
    """Refuse a process whose code would not make of a task what the leader's makes."""

    module: str  # of the job
    digest: str  # of all that the module reaches

    def require(self) -> None:
        """Refuse code that is not the leader's.

        Raises:
            ConfigError: what the module reaches has another digest here.
        """
        if code_digest(self.module, now=True) != self.digest:
            raise ConfigError(
                f"{self.module}: its code, or what it imports, is not that of the job"
            )

    def setup(self, worker: Worker) -> None:
        """Prepare a process; it ends here where its code is another.

        Raises:
            ConfigError: the code is another.
        """
        nanny = multiprocessing.parent_process()
        assert nanny is not None
        die_with_parent(nanny.pid or 0)
        # Whoever is asked to stop is the parent.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        set_up_logging()
        # Each end of a leader is an error to Dask; that it pauses for want of memory is news.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        logging.getLogger("distributed.worker.memory").setLevel(logging.WARNING)
        self.require()


@dataclass(frozen=True)
class Meeting:
    """Where the scheduler of an attempt is, and what is needed to join it.

    `scheduler.json` may be read by all; the key, with its certificate, lies in the same folder,
    which only the job's user may enter.
    """

    id: str
    address: str
    code: SameCode
    security: Security

    @classmethod
    def read(cls, folder: Path) -> "Meeting | None":
        """Return what the leader has written last; None while there is nothing whole."""
        try:
            said, pem = read_json(folder / "scheduler.json"), (folder / "key.pem").read_text()
        except (FileNotFoundError, ValueError):
            return None
        # One key for all: only those who have it may connect, whichever way.
        holders = {f"tls_{role}_cert": pem for role in ("client", "scheduler", "worker")}
        security = Security(require_encryption=True, tls_ca_file=pem, **holders)
        return cls(said["id"], said["address"], SameCode(said["module"], said["code"]), security)

    def write(self, folder: Path) -> None:
        """Write the files, the one that is looked for last."""
        folder.mkdir(mode=0o700)
        with open(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(f"{self.security.tls_client_key}{self.security.tls_ca_file}")
        code = {"module": self.code.module, "code": self.code.digest}
        write_json(folder / "scheduler.json", {"id": self.id, "address": self.address, **code})


@contextlib.contextmanager
def shared_executor(job: Job) -> Generator[Executor]:
    """Yield an executor over the processes of this node and of those that join it.

    The job, the leader, is told that it is alive while others compute.
    """
    code = SameCode(main_module(), code_digest(main_module()))
    address = environment.dask_address()
    with contextlib.ExitStack() as stack:
        configure()
        if address is None:
            client = stack.enter_context(_own_cluster(job, code))
        else:
            security = Security(require_encryption=not address.startswith("tcp://"))
            client = stack.enter_context(Client(address, security=security))
            client.run(code.require)
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _own_cluster(job: Job, code: SameCode) -> Generator[Client]:
    """Run a scheduler in this process, and processes that compute beside it."""
    port = environment.dask_dashboard()
    folder = job.scratch / "dask"
    security = Security.temporary()
    scheduler = {
        "host": get_ip(),
        "protocol": "tls://",
        "security": security,
        "dashboard": port is not None,
        "dashboard_address": f"127.0.0.1:{port or 0}",
    }
    options = nanny_options(security, code, job.processes)
    with config.set(NO_DASHBOARD if port is None else {}):
        cluster: Any = SpecCluster(
            scheduler={"cls": Scheduler, "options": scheduler},
            workers={n: {"cls": Nanny, "options": options} for n in range(job.processes)},
            security=security,
        )

    def look() -> None:
        if any(each.metrics.get("busy") for each in cluster.scheduler.workers.values()):
            job.computes()

    watch = PeriodicCallback(look, BUSY_SECONDS * 1000)
    with cluster, Client(cluster, security=security) as client:
        cluster.loop.add_callback(watch.start)
        try:
            Meeting(uuid.uuid4().hex, cluster.scheduler_address, code, security).write(folder)
            yield client
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            cluster.loop.add_callback(watch.stop)
            kill(cluster.workers.values())


def configure() -> None:
    """Set up Dask in this process: who may connect, what it serves and what it says."""
    config.set(SETTINGS)
    logging.getLogger("distributed").setLevel(logging.WARNING)


def nanny_options(security: Security, code: SameCode, processes: int) -> dict[str, Any]:
    """Return how each process of a node is started and watched."""
    granted_mib = os.environ.get("SLURM_MEM_PER_NODE") or MEMORY_LIMIT >> 20
    return {
        "nthreads": 1,
        "host": get_ip(),
        "protocol": "tls://",
        "security": security,
        "silence_logs": logging.WARNING,
        # Of what Slurm has granted, else of the machine's.
        "memory_limit": min(MEMORY_LIMIT, int(granted_mib) << 20) // processes,
        "dashboard_address": "127.0.0.1:0",
        "plugins": (code,),
        "metrics": {"busy": busy},
    }


def kill(nannies: Iterable[Nanny]) -> None:
    """End the processes of nannies at once; they are not started again."""
    for nanny in nannies:
        nanny.close_gracefully()
    for process in multiprocessing.active_children():
        process.kill()


def busy(worker: Worker) -> bool:
    """Return whether a process, or one that it has started, has computed since the last beat."""
    usage = vars(worker).setdefault("tree_usage", None) or TreeUsage()
    vars(worker)["tree_usage"] = usage
    return usage.look()[1]
