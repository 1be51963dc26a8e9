"""A webhook on this machine that answers, refuses or drops as a test tells it."""

import contextlib
import http.server
import json
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

SECRET = "T0SECRET/canary-4d1e"
DROP = "drop"  # the connection is closed without an answer, once the message has been read
HOLD = "hold"  # no answer until the server is closed

Answer = int | str | tuple[int, dict[str, str]]  # a status, with headers


@dataclass(kw_only=True)
class Webhook:
    """What has been posted, and how the next posts are answered; 200 when nothing is left."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)  # bodies that were answered by 2xx
    seen: list[tuple[str, str]] = field(default_factory=list)  # path and Idempotency-Key of each
    closing: threading.Event = field(default_factory=threading.Event)

    def then(self, *answers: Answer) -> None:
        self.answers += answers

    def texts(self) -> list[str]:
        return [body["text"] for body in self.taken]


@contextlib.contextmanager
def running_webhook(answers: Iterable[Answer] = ()) -> Generator[Webhook]:
    """Serve until the block ends."""
    hook = Webhook(answers=[*answers])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.seen.append((self.path, self.headers["Idempotency-Key"]))
            answer = hook.answers.pop(0) if hook.answers else 200
            if answer == HOLD:
                hook.closing.wait(60)
            if isinstance(answer, str):
                self.close_connection = True
                return
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            if 200 <= status < 300:
                hook.taken.append(body)
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hook.url = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
        try:
            yield hook
        finally:
            hook.closing.set()
            server.shutdown()
            thread.join()
