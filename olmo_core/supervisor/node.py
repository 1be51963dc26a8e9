"""Run one node's ranks of a distributed job: `python -m olmo_core.supervisor.node RUN_FOLDER`.

torchrun's own machinery does it, with a meeting place that is known beforehand, and without
restarts: those are the supervisor's. When it is done, each rank has its log, what failed stands in
`log/attempt{N}.node{K}.failure.json`, and the exit code is that of the rank that failed first.
"""

import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch.distributed.elastic.multiprocessing.api import LogsDest, LogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from olmo_core import environment
from olmo_core.environment import ATTEMPT, RUN_FOLDER
from olmo_core.errors import ConfigError, ExitCode
from olmo_core.run import attempts
from olmo_core.run.command import exit_codes, set_up_logging
from olmo_core.run.folder import RunFolder, folder_argument
from olmo_core.run.process import members, out_of_memory_kills, send
from olmo_core.supervisor import failure
from olmo_core.supervisor.failure import Failure
from olmo_core.supervisor.launch_spec import LaunchSpec, free_port, read_launch_spec
from olmo_core.supervisor.rank_environment import rank_defaults

LOOK_SECONDS = 1.0  # between looks at whether this attempt has been given up
MEETING_SECONDS = 900  # for the nodes to find each other; the supervisor may be less patient

# Who says which node this is: the launcher, Slurm, Kubernetes; the first that does is believed.
NODE_RANK = (environment.NODE_RANK, "SLURM_NODEID", "JOB_COMPLETION_INDEX")
NODE_NAME = ("SLURMD_NODENAME", "NODE_NAME")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node's part of a job."""

    folder: RunFolder
    spec: LaunchSpec
    attempt: int
    rank: int  # of the node
    address: str  # host:port
    name: str


def main(arguments: list[str] | None = None) -> None:
    """Run this node's ranks to their end."""
    folder = folder_argument(
        arguments,
        "Run one node's ranks of the job of a run folder.",
        f"Which node this is: the first of {', '.join(NODE_RANK)} that is set; else 0.",
    )
    set_up_logging()
    with exit_codes():
        node = read_node(folder, os.environ)
        raise SystemExit(run(node))


def read_node(folder: RunFolder, environment: Mapping[str, str]) -> Node:
    """Return this node's part, from launch.json and the environment.

    Raises:
        ConfigError: either of them does not say.
    """
    spec = read_launch_spec(folder, "module", "nodes", "processes_per_node")
    count = spec.nodes
    # One node alone is the first, whatever allocation it lies in.
    names = NODE_RANK if count > 1 else ()
    rank = int(next((environment[name] for name in names if name in environment), "0"))
    if not 0 <= rank < count:
        raise ConfigError(f"environment: node rank {rank}, but {folder.launch} has {count} nodes")
    address, port = environment.get("MASTER_ADDR"), environment.get("MASTER_PORT")
    if count > 1 and not (address and port):
        raise ConfigError(f"environment: {count} nodes, but no MASTER_ADDR and MASTER_PORT")
    # Without a supervisor that has numbered it, a node joins what the first one has begun.
    begun = attempts.latest(folder) if rank > 0 else 0
    return Node(
        folder=folder,
        spec=spec,
        attempt=int(environment.get(ATTEMPT) or begun or attempts.next_number(folder)),
        rank=rank,
        address=f"{address or '127.0.0.1'}:{port or free_port()}",
        name=next((environment[name] for name in NODE_NAME if name in environment), "")
        or socket.gethostname(),
    )


def run(node: Node) -> int:
    """Start the ranks and wait for their end; returns the exit code of the first that failed."""
    os.environ[ATTEMPT] = str(node.attempt)  # for the ranks, where no supervisor has said so
    os.environ[RUN_FOLDER] = str(node.folder.path)
    node.folder.log.mkdir(exist_ok=True)
    os.environ.update(rank_defaults(os.environ, node.folder.log, node.attempt))
    # The first rank has sockets to all others; the usual 1,024 files are soon used up.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    agent = _Agent(node)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, agent.on_stop)
    kills = out_of_memory_kills()
    agent.start()
    while agent.is_alive():
        agent.join(LOOK_SECONDS)
        if attempts.has_failed(node.folder, node.attempt):
            logging.error("attempt %d has been given up; ending its ranks", node.attempt)
            agent.kill()
            os._exit(ExitCode.FAILED)
    if agent.error is not None:
        raise agent.error
    if not agent.failures:
        return 0
    failures = _describe(node, agent.failures, out_of_memory=out_of_memory_kills() > kills)
    failure.write_node(node.folder, node.attempt, node.rank, failures)
    first = failures[0]
    return first.exit_code if first.exit_code is not None else 128 + (first.signal or 0)


class _Agent(threading.Thread):
    """torchrun's agent, in a thread: the main one is free to answer signals at every moment.

    On a signal torchrun would end the ranks and forget their exit codes.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(name="agent", daemon=True)
        self._node = node
        self._logs = _RankLogs(node)
        self.failures: dict[int, ProcessFailure] = {}  # by rank
        self.error: BaseException | None = None

    def run(self) -> None:
        node = self._node
        # It says that it handles no signals in a thread: as it should.
        logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
        config = LaunchConfig(
            min_nodes=node.spec.nodes,
            max_nodes=node.spec.nodes,
            nproc_per_node=node.spec.processes_per_node,
            run_id=f"attempt{node.attempt}",
            rdzv_backend="static",
            rdzv_endpoint=node.address,
            rdzv_configs={"rank": node.rank, "timeout": MEETING_SECONDS},
            max_restarts=0,
            logs_specs=self._logs,
            log_line_prefix_template="[rank${rank}] ",
        )
        job = [sys.executable, "-m", node.spec.module, str(node.folder.config)]
        try:
            # The shell joins a rank's two streams in one file, and is gone.
            elastic_launch(config, "/bin/sh")("-c", 'exec "$@" 2>&1', "sh", *job)
        except ChildFailedError as error:
            self.failures = dict(error.failures)
        except BaseException as error:  # raised again in the main thread
            self.error = error

    def on_stop(self, number: int, frame: object) -> None:
        """Ask the ranks to reach a safe point: at once, since whoever asks may not wait."""
        self._node.folder.stop.write_text(str(self._node.attempt))
        if not self._logs.handed_out:  # no rank has been started: nothing to save
            os._exit(128 + signal.SIGTERM)
        # One that has ended by now is no reason to leave: its exit code is still to be told. One
        # that is just being started finds the file.
        send(self._ranks(), signal.SIGTERM)

    def kill(self) -> None:
        """End the ranks as they are."""
        send(self._ranks(), signal.SIGKILL)

    def _ranks(self) -> list[int]:
        """Return the ranks of this node: of several runners on one machine, this one's."""
        found = members(self._node.folder.path, self._node.attempt)
        return [p for p, given in found.items() if given.get("GROUP_RANK") == str(self._node.rank)]


class _RankLogs(LogsSpecs):
    """One file per rank; the first one's is told on this process's output as well."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self.handed_out = False  # torchrun asks for the files as it starts the ranks

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        self.handed_out = True
        folder, attempt = self._node.folder.path, self._node.attempt
        logs = {
            local: str(folder / failure.rank_log(attempt, int(env["RANK"])))
            for local, env in envs.items()
        }
        none = dict.fromkeys(envs, "")
        return LogsDest(
            stdouts=logs,
            stderrs=none,  # the shell joins it to the other
            tee_stdouts={local: path for local, path in logs.items() if envs[local]["RANK"] == "0"},
            tee_stderrs={},
            error_files=none,
        )

    @property
    def root_log_dir(self) -> str:
        return str(self._node.folder.log)


def _describe(
    node: Node, failed: Mapping[int, ProcessFailure], *, out_of_memory: bool
) -> list[Failure]:
    """Return the ranks that failed, first the one that did so by itself."""
    found: list[Failure] = []
    now = time.time()
    for rank, end in failed.items():
        exit_code, number = failure.exit_status(end.exitcode)
        log = failure.rank_log(node.attempt, rank)
        said = [line for line in failure.last_lines(node.folder, log) if line.strip()]
        found.append(
            Failure(
                rank=rank,
                node=node.name,
                exit_code=exit_code,
                signal=number,
                out_of_memory=out_of_memory and number == signal.SIGKILL,
                message=said[-1] if said else "",
                log=log,
                time=now,
            )
        )
    return failure.by_cause(node.folder, found)


if __name__ == "__main__":
    main()
