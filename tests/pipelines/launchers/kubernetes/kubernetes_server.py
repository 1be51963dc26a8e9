"""A stand-in for Kubernetes' API server: keeps objects, answers lists, fails when it is told to.

It knows no more than the engine needs, and is strict where the real one is: names are taken once,
an unknown path is a 404 of another kind than a missing object, and a continued list may expire.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

KINDS = {
    "/apis/batch/v1": {"jobs"},
    "/apis/jobset.x-k8s.io/v1alpha2": {"jobsets"},
    "/apis/trainer.kubeflow.org/v1alpha1": {"trainjobs", "trainingruntimes"},
    "/api/v1": {"pods", "events"},
}


@dataclass(kw_only=True)
class Cluster:
    """The objects of one namespace, and what was asked of them."""

    namespace: str = "lm"
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)  # (plural, name)
    calls: list[tuple[str, str]] = field(default_factory=list)  # (method, plural)
    bodies: list[tuple[str, str, Object]] = field(default_factory=list)  # of DELETE
    fail: list[tuple[str, str, int, bool]] = field(default_factory=list)
    page: int = 1000
    expire: bool = False  # the next continued list is too old
    url: str = ""

    def failing(self, method: str, plural: str, status: int, *, done: bool = False) -> None:
        """Answer the next such call with `status` (0: close the connection), `done` or not."""
        self.fail.append((method, plural, status, done))

    def named(self, plural: str) -> list[str]:
        return sorted(name for kind, name in self.objects if kind == plural)

    def count(self, method: str, plural: str) -> int:
        return self.calls.count((method, plural))

    def add_pod(self, job: str, index: int, **status: Any) -> Object:
        """A pod as the Job controller would make it, for a Job or for that of a set."""
        alone = ("jobs", job) in self.objects
        labels = {"app.kubernetes.io/managed-by": "olmo-pipelines"}
        labels |= {"batch.kubernetes.io/job-name": job if alone else f"{job}-node-0"}
        labels |= {} if alone else {"jobset.sigs.k8s.io/jobset-name": job}
        labels["batch.kubernetes.io/job-completion-index"] = str(index)
        name = f"{job}-{index}-{uuid.uuid4().hex[:5]}"
        node = {"nodeName": status.pop("node")} if "node" in status else {}
        pod = {"metadata": {"name": name, "labels": labels}, "spec": node, "status": status}
        self.objects["pods", name] = pod
        return pod

    def end(
        self, plural: str, name: str, condition: str, reason: str = "", message: str = ""
    ) -> None:
        """The last condition of a job."""
        said = {"type": condition, "status": "True", "reason": reason, "message": message}
        self.objects[plural, name].setdefault("status", {})["conditions"] = [said]


class Handler(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        split = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        group, _, rest = split.path.partition("/namespaces/")
        namespace, _, rest = rest.partition("/")
        plural, _, name = rest.partition("/")
        if namespace != self.cluster.namespace or plural not in KINDS.get(group, ()):
            self._status(404, "the server could not find the requested resource")
            return
        self.cluster.calls.append((method, plural))
        for planned in self.cluster.fail:
            if planned[:2] == (method, plural):
                self.cluster.fail.remove(planned)
                if planned[3]:
                    self._do(method, plural, name, query, body)
                self._fail(planned[2])
                return
        status, answer = self._do(method, plural, name, query, body)
        if isinstance(answer, str):
            self._status(status, answer, name or body.get("metadata", {}).get("name", ""))
        else:
            self._send(status, answer)

    def _fail(self, status: int) -> None:
        if status == 0:
            self.close_connection = True
            self.connection.close()
        else:
            self._status(status, f"told to answer {status}")

    def _do(
        self, method: str, plural: str, name: str, query: dict[str, str], body: Object
    ) -> tuple[int, Object | str]:
        objects = self.cluster.objects
        if method == "POST":
            name = body["metadata"]["name"]
            if (plural, name) in objects:
                return 409, f'{plural} "{name}" already exists'
            body["metadata"]["uid"] = str(uuid.uuid4())
            objects[plural, name] = body
            return 201, body
        if method == "DELETE":
            self.cluster.bodies.append((plural, name, body))
            chosen = (
                [name] if name else [o["metadata"]["name"] for o in self._chosen(plural, query)]
            )
            if name and (plural, name) not in objects:
                return 404, f'{plural} "{name}" not found'
            for each in chosen:
                del objects[plural, each]
            return 200, {}
        if name:
            found = objects.get((plural, name))
            return (200, found) if found else (404, f'{plural} "{name}" not found')
        return self._list(plural, query)

    def _list(self, plural: str, query: dict[str, str]) -> tuple[int, Object | str]:
        if "continue" in query and self.cluster.expire:
            self.cluster.expire = False
            return 410, "The provided continue parameter is too old"
        start = int(query.get("continue", 0))
        end = start + min(int(query["limit"]), self.cluster.page)
        items = self._chosen(plural, query)
        more = {"continue": str(end)} if end < len(items) else {}
        # Items of a list have neither kind nor apiVersion, as with the real server.
        bare = [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in items]
        return 200, {"metadata": more, "items": bare[start:end]}

    def _chosen(self, plural: str, query: dict[str, str]) -> list[Object]:
        wanted = dict(each.split("=") for each in query.get("labelSelector", "").split(",") if each)
        found = [each for (kind, _), each in self.cluster.objects.items() if kind == plural]
        return [
            each
            for each in found
            if wanted.items() <= (each["metadata"].get("labels") or {}).items()
        ]

    def _status(self, status: int, message: str, name: str = "") -> None:
        details = {"details": {"name": name}} if name else {}
        self._send(status, {"kind": "Status", "message": message, "code": status, **details})

    def _send(self, status: int, content: Object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def api_server(cluster: Cluster) -> Iterator[str]:
    """Serve a cluster on loopback; yields the address."""
    handler = type("ClusterHandler", (Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_kubeconfig(path: Path, url: str) -> None:
    """A kubeconfig with one context, `toy`."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "toy",
        "clusters": [{"name": "toy", "cluster": {"server": url}}],
        "contexts": [{"name": "toy", "context": {"cluster": "toy", "user": "toy"}}],
        "users": [{"name": "toy", "user": {"token": "not-a-secret"}}],
    }
    path.write_text(yaml.safe_dump(content))
