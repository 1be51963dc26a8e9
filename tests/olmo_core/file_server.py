"""A real HTTP server on this machine that answers byte ranges, and can misbehave on purpose."""

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class FileServer:
    """Serves the files below `folder` at `url`.

    Attributes:
        faults: What happens to the next requests, one each: "500", "429", "short" (fewer bytes
            than promised), "cut" (fewer bytes, and says so), "shifted" (another range), "busy"
            (503, again in 7 s), "slow down" (429, again in 11 s), "redirect" (to the same path),
            "longer" (says that the file has more bytes than it has).
        ranges: Whether byte ranges are answered.
        validators: What tells versions apart: "etag", "weak" (ETag), "date", "none", or "ignored"
            (an ETag, but If-Range is not looked at).
        before: Called with the number of each request, from 1, before it is answered.
        requests: The path and range of each request so far.
        authorizations: What each told a proxy of its user.
        connections: How many were accepted so far.
    """

    folder: Path
    url: str = ""
    faults: list[str] = field(default_factory=list)
    ranges: bool = True
    validators: str = "etag"
    before: Callable[[int], object] = lambda number: None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    connections: int = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, request.headers.get("Range")))
        self.authorizations.append(request.headers.get("Proxy-Authorization"))
        self.before(len(self.requests))
        fault = self.faults.pop(0) if self.faults else ""
        path = self.folder / request.path.lstrip("/").partition("?")[0]
        if fault in ("busy", "slow down", "redirect"):
            request.send_response({"busy": 503, "slow down": 429, "redirect": 302}[fault])
            request.send_header("Retry-After", "11" if fault == "slow down" else "7")
            request.send_header("Location", request.path)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if fault.isdigit() or not path.is_file():
            request.send_error(int(fault or 404))
            return
        content = path.read_bytes()
        start, stop, status = 0, len(content), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        said = self.said_of(path)
        same = request.headers.get("If-Range") in (None, *said.values())
        if asked and self.ranges and (same or self.validators == "ignored"):
            stop = min(int(asked[2]) + 1, len(content)) if asked[2] else len(content)
            start, status = int(asked[1]), 206
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        start += fault == "shifted"
        body = content[start:stop]
        promised = len(body)
        if fault in ("short", "cut"):
            body = body[: len(body) // 2]
            promised = len(body) if fault == "cut" else promised
        request.send_response(status)
        request.send_header("Content-Length", str(promised))
        for name, value in said.items():
            request.send_header(name, value)
        if status == 206:
            total = len(content) + 7 * (fault == "longer")
            request.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        request.end_headers()
        request.wfile.write(body)
        request.close_connection |= fault == "short"

    def said_of(self, path: Path) -> dict[str, str]:
        """Return the headers that tell the version of a file."""
        tag = f'"{path.stat().st_mtime_ns}"'
        date = formatdate(path.stat().st_mtime, usegmt=True)
        known = {"weak": {"ETag": f"W/{tag}"}, "date": {"Last-Modified": date}, "none": {}}
        return known.get(self.validators, {"ETag": tag})


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    state = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True  # those of kept connections, too, end with the server

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a client may leave early
                super().handle_error(request, client_address)

        request_queue_size = 128  # connections that wait; one turned away comes back a second later

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
