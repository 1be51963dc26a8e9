"""The explorer on a free port, in a thread of the test."""

import contextlib
import threading
import time
from collections.abc import Generator
from pathlib import Path

import uvicorn

from pipelines.explorer.app import application
from pipelines.explorer.listening import LOOPBACK, listen


@contextlib.contextmanager
def serving(root: Path) -> Generator[str]:
    """Serve the explorer over a root; yields its origin, as in `http://127.0.0.1:40123`."""
    listening = listen(0, "--port")
    config = uvicorn.Config(
        application(root), log_level="error", lifespan="off", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the explorer ended"
        time.sleep(0.02)
    try:
        yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
