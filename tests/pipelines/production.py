"""A production on one machine: PostgreSQL, code server, daemon and UI, as deploy/ has them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
import yaml

from assets.graph import Graph
from assets.paths import CHECKOUT
from olmo_core.run.folder import RunFolder
from tests.conftest import toy_graph
from tests.pipelines.postgres import Postgres
from tests.processes import free_ports

GRAPHS = 24  # one a test, or a round of one: what is finished is not made again
DEQUEUE_SECONDS, MONITOR_SECONDS = 1, 5  # between the daemon's looks; 5 and 30 in deploy/
ALL = ("olmo-code", "olmo-daemon", "olmo-webserver")
UNITS = CHECKOUT / "deploy/systemd"
Found = TypeVar("Found")
LOCATION = "pipelines.definitions"  # as deploy/workspace.yaml calls it

# What the code server loads in place of pipelines.definitions.
DEFINITIONS = """
import dagster as dg
from pipelines.definitions import assembled, main_line
from tests.pipelines.production import toy

@dg.definitions
def defs() -> dg.Definitions:
    return assembled(*(main_line(toy(number)) for number in range({graphs})))
"""

LAUNCH = """
mutation Launch($job: String!, $location: String!) {
  launchRun(executionParams: {
    selector: {jobName: $job, repositoryName: "__repository__", repositoryLocationName: $location}
    runConfigData: {}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
TERMINATE = """
mutation Terminate($run: String!) {
  terminateRun(runId: $run) { __typename ... on TerminateRunFailure { message }
                              ... on PythonError { message } }
}
"""


def toy(number: int) -> Graph:
    """The toy graph as a recipe of its own; `first` waits for the file `gate<number>`."""
    name = f"toy{number}"
    graph = toy_graph(first={"wait": os.environ["TOY_GATES"] + str(number), "child": True})
    nodes = {key: replace(node, recipe=name) for key, node in graph.nodes.items()}
    return replace(graph, recipe=replace(graph.recipe, name=name), nodes=nodes)


def unit_command(unit: str, replaced: Mapping[str, str]) -> list[str]:
    """A unit's ExecStart with this machine's paths and ports."""
    lines = (UNITS / f"{unit}.service").read_text().splitlines()
    [command] = [line for line in lines if line.startswith("ExecStart=")]
    command = command.removeprefix("ExecStart=")
    for old, new in replaced.items():
        assert old in command, f"{unit}: no {old} in {command}"
        command = command.replace(old, new)
    return command.split()


def free_port() -> int:
    [port] = free_ports(1)
    return port


def wait_for(look: Callable[[], Found | None], what: str, seconds: float = 120) -> Found:
    """The first answer that is neither None nor False."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


@dataclass(kw_only=True)
class Production:
    """The services, and what a person does with them."""

    folder: Path
    postgres: Postgres
    instance: dg.DagsterInstance
    code_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    services: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def start(self, *units: str) -> None:
        """Start these units' processes; returns when those that listen do."""
        environments = str(Path(sys.executable).parent)
        bins = {"/srv/olmo/checkout/.venv/bin": environments}
        workspace = {
            "/srv/olmo/checkout/deploy/workspace.yaml": str(self.folder / "workspace.yaml")
        }
        commands = {
            "olmo-code": {
                **bins,
                "4266": str(self.code_port),
                LOCATION: "toy_definitions",
                "/srv/olmo/checkout": str(CHECKOUT),
            },
            "olmo-daemon": {**bins, **workspace},
            "olmo-webserver": {**bins, **workspace, "3000": str(self.web_port)},
        }
        for unit in units:
            with (self.folder / f"{unit}.log").open("ab") as log:
                self.services[unit] = subprocess.Popen(
                    unit_command(unit, commands[unit]),
                    cwd=CHECKOUT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            if unit == "olmo-code":
                wait_for(lambda: self._listens(self.code_port), "the code server")
            elif unit == "olmo-webserver":
                wait_for(lambda: self._listens(self.web_port), "the web server")
                wait_for(self.loaded, "the code location")

    def stop(self, *units: str, how: int = signal.SIGTERM) -> None:
        """End these units' main processes, as KillMode=process does."""
        for unit in units:
            process = self.services.pop(unit)
            process.send_signal(how)
            try:
                process.wait(10)  # TimeoutStopSec
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def launch(self, number: int) -> str:
        """Launch the job of a toy graph in the UI's way; the run's id."""
        return self.launch_job(f"toy{number}")

    def launch_job(self, job: str) -> str:
        answer = self.graphql(LAUNCH, job=job, location=LOCATION)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def terminate(self, run: str) -> Mapping[str, Any]:
        """What the UI's button "Terminate" does."""
        return self.graphql(TERMINATE, run=run)["terminateRun"]

    def graphql(self, query: str, **variables: Any) -> Mapping[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web_port}/graphql",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error}: {error.read().decode()}") from None
        assert "errors" not in answer, answer
        return answer["data"]

    def workers(self) -> list[psutil.Process]:
        """The run workers that the code server has started."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.services["olmo-code"].pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def status(self, run: str) -> str:
        found = self.instance.get_run_by_id(run)
        assert found is not None
        return found.status.value

    def wait_status(self, run: str, *statuses: str, seconds: float = 120) -> None:
        wait_for(lambda: self.status(run) in statuses, f"{run} to be one of {statuses}", seconds)

    def last_of(self, run: str) -> str:
        """The run, or the last of its retries."""
        group = self.instance.get_run_group(run)
        assert group is not None
        records = self.instance.get_run_records(dg.RunsFilter(run_ids=[r.run_id for r in group[1]]))
        return max(records, key=lambda record: record.create_timestamp).dagster_run.run_id

    def job(self, number: int) -> RunFolder:
        """The folder of the job of `first`, once that is at work."""

        def look() -> RunFolder | None:
            runs = toy(number).unfinished(self.root, "first")
            return runs[0] if runs and (runs[0].path / "child").exists() else None

        return wait_for(look, f"the job of toy{number}")

    def open_gate(self, number: int) -> None:
        Path(os.environ["TOY_GATES"] + str(number)).touch()

    def starts(self, number: int) -> dict[str, str]:
        """A letter a start, by asset."""
        graph = toy(number)
        paths = {name: graph.folder(self.root, name) / "starts" for name in graph.nodes}
        return {name: path.read_text() for name, path in paths.items() if path.exists()}

    def _listens(self, port: int) -> bool:
        for unit, process in self.services.items():
            log = self.folder / f"{unit}.log"
            assert process.poll() is None, f"{unit} ended: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    def loaded(self) -> bool:
        """Whether the web server answers and has the code location."""
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            answer = self.graphql("{ repositoriesOrError { __typename } }")
            return answer["repositoriesOrError"]["__typename"] == "RepositoryConnection"
        return False


def impatient(configuration: Path) -> str:
    """A production's configuration, with a daemon that looks sooner; nothing else is changed."""
    content = yaml.safe_load(configuration.read_text())
    content["run_coordinator"]["config"] = {"dequeue_interval_seconds": DEQUEUE_SECONDS}
    content["run_monitoring"]["poll_interval_seconds"] = MONITOR_SECONDS
    return yaml.safe_dump(content)


@contextlib.contextmanager
def in_production(folder: Path, postgres: Postgres) -> Generator[Production]:
    """The services over an empty root, all ended at the end with whatever they left behind."""
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(CHECKOUT / "deploy/dagster.yaml")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.run_monitoring_enabled  # it is taken as it stands
    (home / "dagster.yaml").unlink()
    (home / "dagster.yaml").write_text(impatient(CHECKOUT / "deploy/dagster.yaml"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        made = Production(folder=folder, postgres=postgres, instance=instance)
        workspace = yaml.safe_load((CHECKOUT / "deploy/workspace.yaml").read_text())
        workspace["load_from"][0]["grpc_server"]["port"] = made.code_port
        (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        try:
            yield made
        finally:
            for process in made.services.values():
                process.kill()
                process.wait()
            for process in descendants_by_environment(folder):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def descendants_by_environment(folder: Path) -> list[psutil.Process]:
    """Every process of another session that was started for this folder: it inherits the gates."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            gates = process.environ().get("TOY_GATES", "")
            if gates.startswith(str(folder)) and process.pid != os.getpid():
                found.append(process)
    return found
