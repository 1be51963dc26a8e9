"""Only GETs of known hosts are answered; each answer says what a browser may load."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipelines.explorer.app import application
from pipelines.explorer.security import HEADERS
from tests.hostile import hostile
from tests.pipelines.explorer.conftest import ADDRESS, VERSION, make_run


def test_every_answer_has_the_policy(client: TestClient) -> None:
    for address in ("/", "/static/explorer.js", "/nothing", "/model/a/b", "/static/none"):
        answer = client.get(address)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, address
        assert "server" not in answer.headers
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


def test_pages_are_not_kept_by_a_browser_and_files_are(client: TestClient) -> None:
    assert client.get("/").headers["cache-control"] == "no-store"
    assert "max-age" in client.get("/static/plotly.js").headers["cache-control"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_only_gets_are_answered(client: TestClient, method: str) -> None:
    answer = client.request(method, "/")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:3001", ""),
        *("127.0.0.1@x", "127.0.0.1:3001:80", "[::1", "0.0.0.0", "2130706433"),
    ],
)
def test_other_hosts_are_refused(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "Experiments" not in answer.text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:3001", "LOCALHOST:9", "[::1]:80", "[::1]"]
)
def test_loopback_is_answered_by_any_of_its_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


def test_the_hosts_of_a_proxy_are_added(root: Path) -> None:
    client = TestClient(application(root, ["olmo.example.org"]), base_url=ADDRESS)
    assert client.get("/", headers={"host": "olmo.example.org"}).status_code == 200
    assert client.get("/", headers={"host": "other.example.org"}).status_code == 421


def test_two_hosts_are_none(client: TestClient) -> None:
    answer = client.get("/", headers=[("host", "127.0.0.1"), ("host", "evil.example")])
    assert answer.status_code == 421


@pytest.mark.parametrize(
    "name",
    [
        *("../app.py", "..%2fapp.py", "%2e%2e/app.py", "....//app.py", "/etc/passwd"),
        *("explorer.css/..", "..%5capp.py", "explorer.css%00", "templates/base.html"),
    ],
)
def test_no_file_but_the_listed_ones_is_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text
    assert "root:" not in answer.text


def test_paths_are_no_ids(client: TestClient, root: Path) -> None:
    """A folder that is there, but no experiment's, is not to be had by any way of naming it."""
    make_run(root, f"demo/stage1/{VERSION}")
    secret = make_run(root.parent, f"elsewhere/stage1/{VERSION}")
    (root / "demo" / "stage1" / "fedcba987654").symlink_to(secret / "missing")
    for name in (
        f"..%2felsewhere/stage1/{VERSION}",
        f"demo/..%2f..%2felsewhere%2fstage1/{VERSION}",
        f"demo/stage1/..%2fstage1%2f{VERSION}",
        f"demo/stage1/.%2f{VERSION}",
        "demo/stage1/%2fetc",
        "demo/stage1/fedcba987654",
        f"demo/stage1/{VERSION}%00",
    ):
        assert client.get(f"/model/{name}").status_code == 404, name
        assert client.get(f"/step/{name}?step=1").status_code == 404, name
    assert client.get(f"/model/demo/stage1/{VERSION}").status_code == 200


def test_hostile_names_are_not_found_and_stand_as_text(
    client: TestClient, root: Path, tmp_path: Path
) -> None:
    make_run(root, f"demo/stage1/{VERSION}")
    canary = tmp_path / "canary"
    for value in [
        *hostile(canary),
        "x" * 30_000,
        "\x1b[31m\x00\u202e",
        "\ud800".encode("utf-8", "surrogatepass"),
    ]:
        for answer in (
            client.get("/compare", params={"run": value}),
            client.get("/documents/nothing", params={"q": value}),
            client.get(f"/step/demo/stage1/{VERSION}", params={"step": value}),
        ):
            assert answer.status_code in (404, 422)
            assert "<script>alert" not in answer.text
            assert "Traceback" not in answer.text
            assert not set("\x1b\x00\u202e") & set(answer.text)
            assert len(answer.text) < 8000
    assert not canary.exists()
