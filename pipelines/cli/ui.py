"""Serve the Dagster UI and its daemon over the project's own instance."""

import errno
import os
import signal
import socket
import sys

from assets.paths import CHECKOUT
from olmo_core.errors import ConfigError
from pipelines.instance import use_dagster_home


def serve(host: str, port: int) -> None:
    """Replace this process by `dagster dev`.

    Raises:
        ConfigError: the port is taken or the address is not this machine's.
    """
    _check_free(host, port)
    home = use_dagster_home()
    print(f"Dagster UI: http://{host}:{port}  (instance: {home}; end it with Ctrl-C)", flush=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored, perhaps, by a shell's background job
        signal.signal(number, signal.SIG_DFL)
    os.chdir(home)  # dagster warns of a dagster.yaml in its folder that is not its home's
    os.execve(sys.executable, ui_command(host, port), environment)


def ui_command(host: str, port: int) -> list[str]:
    """Dagster's UI and daemon, listening on this address alone."""
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
