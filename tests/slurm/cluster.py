"""A real Slurm of three nodes on this machine, in a folder of its own; several can run at once.

`python -m tests.slurm.cluster` brings one up until Ctrl-C or SIGTERM, to try things by hand.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.processes import free_ports

NODES = ("n1", "n2", "n3")
START_SECONDS = 30.0
END_SECONDS = 10.0
# The command that a Debian package is looked for by.
PACKAGES = {
    "munged": "munge",
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
}
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# Short times, so that what takes minutes on a cluster takes seconds here. cred_expire is also how
# long a requeued job waits before it may start again.
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
MpiDefault=none
SlurmctldPort={controller_port}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool/%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=100000,bf_interval=5,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.log
MaxArraySize=1001
MinJobAge=3600
KillWait=15
SlurmdTimeout=8
MessageTimeout=5
InactiveLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs=2 RealMemory=2000 State=UNKNOWN
{nodes}
PartitionName=main Nodes=n[1-3] Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP
PartitionName=hi Nodes=n[1-3] MaxTime=1:00:00 PriorityTier=10 State=UP
"""


def missing_packages() -> list[str]:
    """The Debian packages without which no cluster can be brought up."""
    return [name for command, name in PACKAGES.items() if not shutil.which(command, path=SEARCH)]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that has been started; its clients need `SLURM_CONF`."""

    folder: Path
    configuration: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of a client: the caller's, and where the cluster is."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return {**inherited, "SLURM_CONF": str(self.configuration), "PATH": SEARCH}

    def run(self, *command: str) -> str:
        """The output of a client's command.

        Raises:
            RuntimeError: the command failed.
        """
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def node_states(self) -> list[str]:
        """`idle`, `allocated`, `down`, … of n1, n2 and n3; none where the controller is silent."""
        with contextlib.suppress(RuntimeError):
            return self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
        return []

    def await_idle(self, seconds: float = START_SECONDS) -> None:
        """Wait until every node can take a job.

        Raises:
            TimeoutError: one cannot; the message says which.
        """
        deadline = time.monotonic() + seconds
        while (states := self.node_states()) != ["idle"] * len(NODES):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.folder}: nodes {', '.join(NODES)} are {states}")
            time.sleep(0.2)

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-f", str(self.configuration))

    def stop_controller(self) -> None:
        self._end("slurmctld")

    def start_node(self, node: str) -> None:
        self._daemon("slurmd", "-N", node, "-f", str(self.configuration))

    def kill_node(self, node: str) -> None:
        """SIGKILL a node's slurmd: to the controller the node is lost, its jobs live on."""
        self._end(f"slurmd.{node}", signal.SIGKILL)

    def processes(self, job: str | None = None) -> list[psutil.Process]:
        """What runs in jobs of this cluster, or in one of them; daemons are not among them."""
        return [
            process
            for process, environment in self._everything()
            if "SLURM_JOB_ID" in environment and job in (None, environment["SLURM_JOB_ID"])
        ]

    def stop(self) -> None:
        """End every daemon and every job, and remove the folder; nothing of it is kept."""
        for daemon in ["slurmctld", *(f"slurmd.{node}" for node in NODES), "munged"]:
            self._end(daemon, signal.SIGKILL)
        for process, _ in self._everything():  # jobs and what starts them
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder)

    def _everything(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        """What was started with this cluster in its environment, but for the caller."""
        found: list[tuple[psutil.Process, dict[str, str]]] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == str(self.configuration)
                if ours and process.pid != os.getpid():
                    found.append((process, environment))
        return found

    def _start(self) -> None:
        run = self.folder / "run"
        self._daemon(
            "munged",
            "--force",  # or it refuses a folder that others cannot enter
            f"--key-file={self.folder / 'munge.key'}",
            f"--socket={run / 'munge.sock'}",
            f"--pid-file={run / 'munged.pid'}",
            f"--seed-file={run / 'munge.seed'}",
            f"--log-file={self.folder / 'log' / 'munged.log'}",
        )
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.await_idle()

    def _daemon(self, *command: str) -> None:
        """Start a daemon, which goes into the background by itself."""
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # which it keeps open
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}; {self._logs()}")

    def _end(self, daemon: str, signum: int = signal.SIGTERM) -> None:
        """End a daemon by its pid file and wait until it is gone."""
        path = self.folder / "run" / f"{daemon}.pid"
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            process = psutil.Process(int(path.read_text()))
            process.send_signal(signum)
            deadline = time.monotonic() + END_SECONDS
            # Whoever inherited the daemon may take its time to bury it.
            while process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.02)

    def _logs(self) -> str:
        ends = [
            f"{path.name}: {path.read_text(errors='replace')[-2000:]}"
            for path in sorted((self.folder / "log").glob("*.log"))
        ]
        return "\n".join(ends)


@contextlib.contextmanager
def running_cluster() -> Generator[Cluster]:
    """A cluster, as the caller's own user, with ports that nothing else uses.

    Raises:
        RuntimeError: Debian packages are missing (named), or a daemon does not start.
    """
    if missing := missing_packages():
        raise RuntimeError(
            f"no Slurm here: apt-get install --no-install-recommends {' '.join(missing)}"
        )
    # A socket's path may be 107 bytes long: pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    for name in ("state", "log", "run", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    controller, *ports = free_ports(1 + len(NODES))
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        for node, port in zip(NODES, ports, strict=True)
    ]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=host,
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller,
            nodes="\n".join(nodes),
        )
    )
    cluster = Cluster(folder=folder, configuration=configuration)
    try:
        cluster._start()
        yield cluster
    finally:
        cluster.stop()


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell had them ignored
        signal.signal(number, _interrupt)
    with running_cluster() as up, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={up.configuration}", flush=True)
        signal.pause()
