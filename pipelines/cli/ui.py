"""Serve Dagster's UI and its daemon over the project's own instance, and the explorer."""

import contextlib
import errno
import os
import signal
import socket
import sys
import time

from assets.paths import CHECKOUT
from olmo_core.environment import EXPLORER
from olmo_core.errors import ConfigError
from olmo_core.run.process import start_ticks
from pipelines.explorer.listening import LOOPBACK, listen
from pipelines.instance import storage_errors, use_dagster_home


def serve(host: str, port: int, explorer_port: int | None = None) -> None:
    """Start the explorer, and replace this process by `dagster dev`.

    Args:
        host: Address of Dagster's UI.
        port: Of Dagster's UI.
        explorer_port: Of the explorer, on loopback; None: the one after `port`.

    Raises:
        ConfigError: a port is taken or the address is not this machine's.
        StorageError: the root cannot be written.
    """
    _check_free(host, port)
    explorer_port = explorer_port or port + 1
    listening = listen(explorer_port, "olmo ui --explorer-port")
    with storage_errors():
        home = use_dagster_home()
    print(f"Dagster UI: starting over {home}; end it with Ctrl-C", flush=True)
    start_explorer(listening)
    os.environ[EXPLORER] = f"http://{LOOPBACK}:{explorer_port}"
    print(f"Explorer: {os.environ[EXPLORER]}", flush=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored, perhaps, by a shell's background job
        signal.signal(number, signal.SIG_DFL)
    announce(host, port)
    os.chdir(home)  # dagster warns of a dagster.yaml in its folder that is not its home's
    os.execve(sys.executable, ui_command(host, port), environment)


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
    command = [sys.executable, "-c", code, str(listening.fileno()), str(os.getpid())]
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
