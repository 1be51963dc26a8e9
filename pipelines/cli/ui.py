"""Serve Dagster's UI and its daemon over the project's own instance, and the explorer."""

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from assets.paths import CHECKOUT
from assets.recipe import find_recipes
from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.run.process import start_ticks
from pipelines.explorer.listening import LOOPBACK, listen
from pipelines.instance import storage_errors, use_dagster_home
from pipelines.shown import ALL, shown_recipes


def serve(
    host: str,
    port: int,
    explorer_port: int | None = None,
    *,
    recipes: Sequence[str] = (),
    every: bool = False,
) -> None:
    """Start the explorer, and replace this process by `dagster dev`.

    Args:
        host: Address of Dagster's UI.
        port: Of Dagster's UI.
        explorer_port: Of the explorer, on loopback; None: the one after `port`.
        recipes: That Dagster shows although they have no results.
        every: Have Dagster show all recipes that there are.

    Raises:
        ConfigError: a port is taken, the address is not this machine's, or there is no such recipe.
        StorageError: the root cannot be written.
    """
    _check_free(host, port)
    wanted = [*environment.shown_recipes(), *recipes, *([ALL] if every else [])]
    os.environ[environment.SHOW] = ",".join(wanted)
    shown = shown_recipes()
    explorer_port = explorer_port or port + 1
    listening = listen(explorer_port, "olmo ui --explorer-port")
    with storage_errors():
        home = use_dagster_home()
    print(f"Dagster UI: starting over {home}; end it with Ctrl-C", flush=True)
    print(f"recipes: {', '.join(shown)}{_hidden(len(find_recipes()) - len(shown))}", flush=True)
    start_explorer(listening)
    os.environ[environment.EXPLORER] = f"http://{LOOPBACK}:{explorer_port}"
    print(f"Explorer: {os.environ[environment.EXPLORER]}", flush=True)
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored, perhaps, by a shell's background job
        signal.signal(number, signal.SIG_DFL)
    announce(host, port)
    os.chdir(home)  # dagster warns of a dagster.yaml in its folder that is not its home's
    os.execve(sys.executable, ui_command(host, port), variables)


def _hidden(count: int) -> str:
    """Return how what is not shown can be seen."""
    return f"; {count} without results are not shown (olmo ui --all)" if count else ""


def announce(host: str, port: int) -> None:
    """Print the address as soon as the port answers, from a process beside this one.

    This process becomes Dagster's, which takes a minute or more to load all recipes.
    """
    server, began = os.getpid(), start_ticks(os.getpid())
    if child := os.fork():
        os.waitpid(child, 0)
        return
    if os.fork():  # an orphan is reaped by the system; Dagster would leave it as a zombie
        os._exit(0)
    while start_ticks(server) == began:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            print(f"Dagster UI: http://{host}:{port}", flush=True)
            break
        time.sleep(0.5)
    os._exit(0)


def start_explorer(listening: socket.socket) -> None:
    """Serve the explorer from a process beside this one, which ends when this one does.

    It begins anew, so that it holds nothing that this process has opened.
    """
    listening.set_inheritable(True)
    code = "from pipelines.explorer.serve import main; main()"
    # -P: no module of the folder that the command was given in stands before one of ours.
    command = [sys.executable, "-P", "-c", code, str(listening.fileno()), str(os.getpid())]
    if child := os.fork():
        os.waitpid(child, 0)
        listening.close()
        return
    if os.fork():  # an orphan is reaped by the system; Dagster would leave it as a zombie
        os._exit(0)
    os.execv(sys.executable, command)


def ui_command(host: str, port: int) -> list[str]:
    """Return the command of Dagster's UI and daemon, listening on this address alone."""
    listen = ["--host", host, "--port", str(port)]
    workspace = ["--workspace", str(CHECKOUT / "workspace.yaml")]
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]  # its successor wants a project
    return [sys.executable, *quiet, "-m", "dagster", "dev", *listen, *workspace]


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {port} on {host} is in use; end what listens there or choose another: "
                    f"olmo ui --port {port + 1}"
                ) from None
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None
