"""Sources that lie elsewhere: a dataset from a stand-in of the hub, and lists of URLs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.corpus.intake import datasets
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.corpus.intake.remote import brought
from olmo_core.errors import ConfigError, InputError, Stopped
from tests.olmo_core.file_server import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Answers what huggingface_hub asks of a dataset at one commit."""

    files: dict[str, bytes]
    url: str = ""
    failing: set[str] = field(default_factory=set[str])  # paths that are not to be read
    fetched: list[str] = field(default_factory=list[str])  # paths
    held: threading.Event = field(default_factory=threading.Event)  # cleared: no file is sent

    def __post_init__(self) -> None:
        self.held.set()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        prefix = f"/datasets/some/set/resolve/{COMMIT}/"
        if path == f"/api/datasets/some/set/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                for name, content in sorted(self.files.items())
            ]
            self._send(request, 200, json.dumps(entries).encode(), {})
        elif path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            name = path.removeprefix(prefix)
            if request.command == "GET":
                self.held.wait()
                self.fetched.append(name)
            content = self.files[name]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(content)}"'}
            self._send(request, 403 if name in self.failing else 200, content, headers)
        else:
            missing = {
                "X-Error-Code": "RepoNotFound" if "some/set" not in path else "RevisionNotFound"
            }
            self._send(request, 404, b"{}", missing)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)  # pyright: ignore[reportUnknownMemberType]
    return sink.getvalue().to_pybytes()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    rows = [
        {"id": 7, "text": "Seven", "metadata": {"deep": {"n": [1, 2]}}},
        {"id": 8, "text": "Eight", "metadata": {"deep": {"n": []}}},
    ]
    lines = b'{"id": "a", "text": "A line", "added": "2020-01-01"}\n'
    hub = Hub(
        files={
            "data/train-0.parquet": parquet(rows),
            "data/train-1.jsonl": lines,
            "data/test-0.jsonl": b'{"id": "t", "text": "Held back"}\n',
            "README.md": b"# About the set\n",
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield hub
    server.shutdown()
    server.server_close()


def dataset(files: Any, **changes: Any) -> Any:
    settings = {"reader": "huggingface", "dataset": "some/set", "revision": COMMIT}
    return files("", **{**settings, "data_files": ("data/train-*",), **changes})


def test_a_dataset_at_a_commit_is_read_and_kept(
    hub: Hub, files: Any, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = read(dataset(files))
    assert reading.texts == {"mine/7": "Seven", "mine/8": "Eight", "mine/a": "A line"}
    assert reading.documents[0].metadata == {
        "deep": {"n": [1, 2]},
        "file": "data/train-0.parquet",
    }
    assert reading.documents[2].added == "2020-01-01"
    assert (reading.row["reader"], reading.row["integer_ids"]) == ("huggingface", 2)
    assert sorted(hub.fetched) == ["data/train-0.parquet", "data/train-1.jsonl"]
    everything = read(dataset(files, data_files=()))
    assert len(everything.documents) == 4
    # What other patterns have brought is no part of this source; the hub may be gone.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert read(dataset(files)).texts == reading.texts


def test_a_datasets_card_is_read_only_where_it_is_named(hub: Hub, files: Any, read: Any) -> None:
    everything = read(dataset(files, data_files=()))
    assert not any("About the set" in text for text in everything.texts.values())
    assert everything.row["left_out"] == "1 excluded (files)"
    for named in ({"data_files": ("README.md",)}, {"data_files": (), "include": ("*.md",)}):
        [text] = read(dataset(files, **named)).texts.values()
        assert text == "# About the set\n"


def test_a_split_is_read_and_nothing_else_fetched(
    hub: Hub, files: Any, read: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held_back = {"data_files": (), "split": "test"}
    assert read(dataset(files, **held_back)).texts == {"mine/t": "Held back"}
    assert sorted(hub.fetched) == ["README.md", "data/test-0.jsonl"]
    with pytest.raises(InputError, match=r"0123\w+: no split 'dev'; found \['test', 'train'\]"):
        read(dataset(files, data_files=(), split="dev"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert len(read(dataset(files, **held_back)).documents) == 1
    # Another subset, as the card has it.
    hub.files["README.md"] = (
        b"---\nconfigs:\n- {config_name: ours, data_files: data/*1.jsonl}\n---\n"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert read(dataset(files, data_files=(), subset="ours")).texts == {"mine/a": "A line"}


def test_it_says_how_much_of_a_dataset_has_come(hub: Hub, files: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    brought(dataset(files), tmp_path / "brought", lambda *figures: seen.append(figures))
    size = sum(len(hub.files[name]) for name in ("data/train-0.parquet", "data/train-1.jsonl"))
    assert seen[-1] == (size, size, "2 of 2 files")


def test_a_stop_ends_the_fetch_of_a_dataset_that_hangs(
    hub: Hub, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "REPORT_SECONDS", 0.01)
    hub.held.clear()

    def stop(*_: object) -> None:
        raise Stopped("asked to")

    try:
        with pytest.raises(Stopped, match="asked to"):
            brought(dataset(files), tmp_path / "brought", stop)
    finally:
        hub.held.set()


def test_an_interrupted_fetch_goes_on_where_it_was(hub: Hub, files: Any, read: Any) -> None:
    hub.failing.add("data/train-1.jsonl")
    with pytest.raises(InputError, match=r"mine: dataset some/set, revision 0123.*: cannot be"):
        read(dataset(files))
    hub.failing.clear()
    hub.fetched.clear()
    assert len(read(dataset(files)).documents) == 3
    assert "data/train-0.parquet" not in hub.fetched


def test_files_in_the_cache_are_not_taken_for_all_without_the_hubs_list(
    hub: Hub, tmp_path: Path, files: Any, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As `hf_hub_download`, or an earlier version, leaves it: one of two files, and no list.
    kept = tmp_path / "hub" / "datasets--some--set" / "snapshots" / COMMIT / "data/train-1.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(hub.files["data/train-1.jsonl"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"mine: dataset some/set, .*: whether all of its files"):
        read(dataset(files))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert len(read(dataset(files)).documents) == 3


def test_a_dataset_that_is_not_there_is_named(hub: Hub, files: Any, read: Any) -> None:
    with pytest.raises(InputError, match=r"dataset no/set, revision .*: not there, or not to be"):
        read(dataset(files, dataset="no/set"))
    with pytest.raises(InputError, match=r"some/set.*: no file matches \['data/val-\*'\]"):
        read(dataset(files, data_files=("data/val-*",)))


@pytest.mark.parametrize("changes", [{"revision": "main"}, {"dataset": ""}, {"revision": ""}])
def test_a_dataset_needs_a_whole_commit(files: Any, changes: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"mine: reader huggingface takes `dataset` and `revision`"
    ):
        dataset(files, **changes)


def test_a_commit_says_what_the_files_are(hub: Hub, files: Any) -> None:
    assert source_identity([dataset(files)]) == {"packages": {}}
    assert not hub.fetched


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_list_of_urls_is_a_source(tmp_path: Path, cache: Path, files: Any, read: Any) -> None:
    (tmp_path / "served" / "v1").mkdir(parents=True)
    lines = {"a": b'{"id": 1, "text": "One"}\n', "b": b'{"id": 2, "text": "Two"}\n'}
    for name, line in lines.items():
        (tmp_path / "served" / "v1" / f"{name}.jsonl").write_bytes(line)
    with serving(tmp_path / "served") as server:
        listed = tmp_path / "urls.txt"
        digest = hashlib.sha256(lines["b"]).hexdigest()
        listed.write_text(f"# v1\n{server.url}/v1/a.jsonl\n\n{server.url}/v1/b.jsonl {digest}\n")
        source = files("", urls=str(listed))
        server.faults.extend(["500", "cut"])
        reading = read(source)
        assert reading.texts == {"mine/1": "One", "mine/2": "Two"}
        assert str(reading.documents[0].metadata["file"]).endswith("/v1/a.jsonl")
        before = source_identity([source])
        assert before["urls"] == {"mine": hashlib.sha256(listed.read_bytes()).hexdigest()}
        listed.write_text(f"{server.url}/v1/a.jsonl {digest}\n")
        assert source_identity([source]) != before
        with pytest.raises(InputError, match=r"v1/a\.jsonl"):
            read(source)


def test_what_decides_the_text_of_archives_counts_before_they_have_come(
    hub: Hub, tmp_path: Path, files: Any
) -> None:
    listed = tmp_path / "urls.txt"
    listed.write_text("https://h/a.jsonl.gz\n")
    assert source_identity([files("", urls=str(listed))])["packages"] == {}
    listed.write_text("https://h/a.jsonl.gz\nhttps://h/b.warc.gz?part=1\n")
    of_archives = {"fastwarc", "resiliparse"}
    assert set(source_identity([files("", urls=str(listed))])["packages"]) == of_archives
    listed.write_text("none")  # the job refuses it
    assert source_identity([files("", urls=str(listed))])["packages"] == {}
    named = dataset(files, data_files=("crawl/*.warc.gz",))
    assert set(source_identity([named])["packages"]) == of_archives


def test_a_query_or_a_password_does_not_change_what_a_file_is(
    tmp_path: Path, cache: Path, files: Any, read: Any
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.jsonl").write_bytes(b'{"text": "One"}\n{"text": "Two"}\n')
    listed = tmp_path / "urls.txt"
    with serving(tmp_path / "served") as server:
        listed.write_text(f"{server.url.replace('//', '//me:secret@')}/a.jsonl?token=secret\n")
        reading = read(files("", urls=str(listed), include=("**/*",)))
        assert list(reading.texts.values()) == ["One", "Two"]
        assert "secret" not in "".join(reading.texts)
        listed.write_text(f"{server.url}/a.jsonl\t{'0' * 64}\n")
        with pytest.raises(InputError, match=r"a\.jsonl: the content has SHA256 .*, expected 000"):
            read(files("", urls=str(listed)))
        twice = f"{server.url}/a.jsonl\n{server.url.replace('//', '//me:secret@')}/a.jsonl\n"
        listed.write_text(twice)
        with pytest.raises(InputError, match=r"urls\.txt: two URLs of one file, http/.*/a\.jsonl"):
            read(files("", urls=str(listed)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jsonl", r"urls\.txt:1: found 'a\.jsonl'; expected a URL, and behind it nothing or"),
        ("http://h/a abc", r"urls\.txt:1: found 'http://h/a abc'; expected a URL"),
        ("http://h/a\nhttp://h/a\n", r"urls\.txt:2: http://h/a stands there twice"),
        ("http://h/a\nhttp://h/caf\xe9\n", r"urls\.txt:2: not UTF-8; expected text in UTF-8"),
        ("# none\n", r"urls\.txt: no URL; expected one per line"),
    ],
)
def test_a_list_that_is_none_is_refused(
    tmp_path: Path, cache: Path, files: Any, read: Any, text: str, message: str
) -> None:
    (tmp_path / "urls.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read(files("", urls=str(tmp_path / "urls.txt")))


def test_a_source_of_files_has_one_place(tmp_path: Path, files: Any) -> None:
    with pytest.raises(ConfigError, match=r"mine: `root` belongs to, .*, or `urls` in its place"):
        files(tmp_path, urls="/list")
    with pytest.raises(ConfigError, match=r"mine: urls 'gone' .*expected an existing file"):
        source_identity([files("", urls="gone")])
