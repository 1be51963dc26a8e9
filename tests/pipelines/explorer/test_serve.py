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

import pytest

from olmo_core.errors import ConfigError
from pipelines.explorer.listening import LOOPBACK, listen

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


def test_it_ends_with_the_process_that_it_stands_beside(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BESIDE], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        wait_for(lambda: answers(port), "the explorer")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not answers(port), "the explorer's end")


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
