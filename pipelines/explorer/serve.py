"""Serve the explorer on this machine alone."""

import signal
import socket
import sys
import threading
import time

import uvicorn

from olmo_core import environment
from olmo_core.run.process import start_ticks
from pipelines.explorer.app import application


def main() -> None:
    """Serve for as long as another process lives: arguments are a listening descriptor and its pid.

    Both were handed down by `olmo ui`.
    """
    listening, process = map(int, sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):  # ignored, perhaps, by a shell's background job
        signal.signal(number, signal.SIG_DFL)
    serve(socket.socket(fileno=listening), beside=process)


def serve(sock: socket.socket, *, beside: int | None = None) -> None:
    """Answer until this process is asked to end.

    Args:
        sock: That listens.
        beside: Process with which the explorer ends too.
    """
    app = application(hosts=environment.explorer_hosts())
    # No access log: it would repeat ids of documents. A server's name is nobody's business.
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=5,  # seconds; a browser that reads no further would hold it
    )
    server = uvicorn.Server(config)
    if beside is not None:
        threading.Thread(target=_end_with, args=(server, beside), daemon=True).start()
    server.run(sockets=[sock])


def _end_with(server: uvicorn.Server, process: int) -> None:
    began = start_ticks(process)
    while start_ticks(process) == began:
        time.sleep(0.5)
    server.should_exit = True
