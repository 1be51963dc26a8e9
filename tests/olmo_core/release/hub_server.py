"""A stand-in for the Hugging Face hub: repositories, branches, commits and LFS, in memory.

It can kill its client at a named moment: between its request and the answer.
"""

import base64
import hashlib
import json
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 10_000  # from here on a file goes to LFS


class Hub(ThreadingHTTPServer):
    """The server and all that it holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.private: dict[str, bool] = {}
        self.commits: dict[str, dict[str, Any]] = {}  # id -> files, parent
        self.branches: dict[str, str] = {}  # name -> id
        self.blobs: dict[str, bytes] = {}  # LFS, by SHA-256
        self.uploads: list[str] = []  # SHA-256 of each whole upload, in order
        self.authorizations: set[str] = set()
        self.kill_at: str | None = None  # a moment
        self.refusal: str | None = None  # of whoever wants to make a repository
        self.client: int | None = None
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed."""

    def moment(self, name: str) -> None:
        """Kill the client if this is when."""
        if self.kill_at != name:
            return
        self.kill_at = None
        assert self.client is not None
        os.kill(self.client, signal.SIGKILL)

    def commit(self, files: dict[str, dict[str, Any]], parent: str | None) -> str:
        number = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[number] = {"files": files, "parent": parent}
        return number

    def files(self, branch: str) -> dict[str, bytes]:
        """The content of a branch."""
        found = self.commits[self.branches[branch]]["files"]
        return {
            name: self.blobs[file["sha256"]] if "sha256" in file else file["content"]
            for name, file in found.items()
        }


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def parts(self) -> list[str]:
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def do_GET(self) -> None:
        hub = self.server
        match self.parts():
            case ["api", "models", owner, name]:
                repository = f"{owner}/{name}"
                if repository not in hub.private:
                    self.answer({"error": f"unknown: {repository}"}, 404)
                    return
                self.answer({"id": repository, "private": hub.private[repository]})
            case ["api", "models", _, _, "refs"]:
                branches = [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": head}
                    for name, head in hub.branches.items()
                ]
                self.answer({"branches": branches, "converts": [], "tags": []})
            case ["api", "models", _, _, "commits", branch]:
                rows: list[dict[str, Any]] = []
                number: str | None = hub.branches[branch]
                while number is not None:
                    date = "2024-11-26T00:00:00.000Z"
                    rows.append({"id": number, "title": "", "message": "", "date": date})
                    rows[-1]["authors"] = []
                    number = hub.commits[number]["parent"]
                self.answer(rows)
            case ["api", "models", _, _, "tree", branch]:
                files = hub.commits[hub.branches[branch]]["files"]
                self.answer([_entry(name, file) for name, file in sorted(files.items())])
            case _:
                self.answer({"error": f"unknown: {self.path}"}, 404)

    def do_POST(self) -> None:
        hub, content = self.server, self.body()
        match self.parts():
            case ["api", "repos", "create"]:
                asked = json.loads(content)
                name = f"{asked['organization']}/{asked['name']}"
                if hub.refusal is not None:
                    self.answer({"error": hub.refusal}, 403)
                    return
                if name in hub.private:
                    self.answer({"error": "exists", "url": f"{hub.endpoint}/{name}"}, 409)
                    return
                hub.private[name] = asked.get("private") or asked.get("visibility") == "private"
                attributes = {".gitattributes": {"content": b"*.safetensors filter=lfs\n"}}
                hub.branches["main"] = hub.commit(attributes, None)
                hub.moment("repository made")
                self.answer({"url": f"{hub.endpoint}/{name}", "name": name, "id": "1"})
            case ["api", "validate-yaml"]:
                self.answer({"errors": [], "warnings": []})
            case ["api", "models", _, _, "branch", branch]:
                if branch in hub.branches:
                    self.answer({"error": "exists"}, 409)
                    return
                hub.branches[branch] = json.loads(content)["startingPoint"]
                hub.moment("branch made")
                self.answer({})
            case ["api", "models", _, _, "preupload", _]:
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["size"] >= LARGE_BYTES else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(content)["files"]
                ]
                self.answer({"files": files})
            case [_, repository, "info", "lfs", "objects", "batch"] if repository.endswith(".git"):
                objects: list[dict[str, Any]] = []
                for asked in json.loads(content)["objects"]:
                    one = {"oid": asked["oid"], "size": asked["size"]}
                    if asked["oid"] not in hub.blobs:
                        href = f"{hub.endpoint}/lfs/{asked['oid']}"
                        one["actions"] = {"upload": {"href": href, "header": {}}}
                    objects.append(one)
                self.answer({"transfer": "basic", "objects": objects})
            case ["api", "models", _, _, "commit", branch]:
                self.take_commit(branch, content)
            case _:
                self.answer({"error": f"unknown: {self.path}"}, 404)

    def take_commit(self, branch: str, content: bytes) -> None:
        hub = self.server
        with hub.lock:
            parent = hub.branches[branch]
            files = dict(hub.commits[parent]["files"])
            for line in content.decode().splitlines():
                operation = json.loads(line)
                value = operation["value"]
                match operation["key"]:
                    case "header":
                        if value.get("parentCommit", parent) != parent:
                            self.answer({"error": "the branch has moved"}, 412)
                            return
                    case "file":
                        files[value["path"]] = {"content": base64.b64decode(value["content"])}
                    case "lfsFile":
                        assert value["oid"] in hub.blobs, "committed before it was uploaded"
                        files[value["path"]] = {"sha256": value["oid"]}
                        files[value["path"]]["size"] = value["size"]
                    case "deletedFile":
                        del files[value["path"]]
                    case key:
                        raise AssertionError(key)
            number = hub.branches[branch] = hub.commit(files, parent)
        hub.moment("committed")
        url = f"{hub.endpoint}/someone/tiny/commit/{number}"
        self.answer({"commitUrl": url, "commitOid": number, "success": True})

    def do_PUT(self) -> None:
        hub = self.server
        [_, sha256] = self.parts()
        size = int(self.headers["Content-Length"])
        content = self.rfile.read(size // 2)
        hub.moment("half of a file")
        content += self.rfile.read(size - size // 2)
        if len(content) < size or hashlib.sha256(content).hexdigest() != sha256:
            self.answer({"error": "not whole"}, 400)
            return
        with hub.lock:
            hub.blobs[sha256] = content
            hub.uploads.append(sha256)
        hub.moment("a file arrived")
        self.answer({})


def _entry(name: str, file: dict[str, Any]) -> dict[str, Any]:
    if "sha256" in file:
        pointer = {"oid": file["sha256"], "size": file["size"], "pointerSize": 130}
        return {"type": "file", "path": name, "oid": "0" * 40, "size": file["size"], "lfs": pointer}
    content = file["content"]
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": name, "oid": blob, "size": len(content)}


@contextmanager
def serving() -> Generator[Hub]:
    """A hub, until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
