"""The explorer beside another process: it answers on loopback, and ends with that process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from olmo_core.errors import ConfigError
from pipelines.explorer.listening import LOOPBACK, listen
from pipelines.explorer.render import STATIC

# Listens, starts the explorer, says where, and waits to be killed, as Dagster would.
BESIDE = """
import time
from pipelines.cli.ui import start_explorer
from pipelines.explorer.listening import listen
listening = listen(0, "--port")
port = listening.getsockname()[1]
start_explorer(listening)
print(port, flush=True)
time.sleep(300)
"""
PATIENCE_SECONDS = 60


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/", timeout=20) as answer:
            return b"Experiments" in answer.read()
    except OSError:
        return False


def listener(port: int) -> psutil.Process:
    [found] = [
        each.pid
        for each in psutil.net_connections("tcp4")
        if each.status == psutil.CONN_LISTEN and [*each.laddr] == [LOOPBACK, port]
    ]
    assert found
    return psutil.Process(found)


def stalled(port: int) -> socket.socket:
    """A browser that has asked for a large file, and reads no further."""
    name = max(STATIC, key=lambda each: STATIC[each][0].stat().st_size)
    client = socket.create_connection((LOOPBACK, port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(f"GET /static/{name} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
    assert client.recv(8) == b"HTTP/1.1"
    return client


def test_it_ends_with_the_process_that_it_stands_beside(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BESIDE], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wait_for(lambda: answers(port), "the explorer")
        explorer, client = listener(port), stalled(port)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with client:
        wait_for(lambda: not explorer.is_running(), "the explorer's end")


def test_a_port_that_is_taken_is_an_error_with_the_option_for_another() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port} on {LOOPBACK} is in use.*--explorer-port"):
            listen(port, "olmo ui --explorer-port")


def test_it_listens_on_loopback_alone() -> None:
    with listen(0, "--port") as listening:
        assert listening.getsockname()[0] == LOOPBACK


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
