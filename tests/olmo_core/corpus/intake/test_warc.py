"""Web archives: pages become documents; what is no page is counted, what is broken refused."""

import gzip
import hashlib
from base64 import b32encode
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.intake import warc
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.errors import InputError

HTML = "<html><head><title>T</title></head><body><p>{}</p></body></html>"


def http(
    body: bytes, kind: str = "text/html; charset=utf-8", status: int = 200, **more: str
) -> bytes:
    lines = [f"HTTP/1.1 {status} OK", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def record(content: bytes, kind: str = "response", name: str = "", **more: str) -> bytes:
    media = {"response": "application/http; msgtype=response", "conversion": "text/plain"}
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{name}>" if name else "",
        "WARC-Target-URI": f"https://example.org/{name}",
        "WARC-Date": "2020-02-03T04:05:06Z",
        "Content-Type": media.get(kind, "application/octet-stream"),
        **{key.replace("_", "-"): value for key, value in more.items()},
        "Content-Length": str(len(content)),
    }
    lines = ["WARC/1.1", *(f"{key}: {value}" for key, value in headers.items() if value), "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n\r\n"


def page(name: str, text: str) -> bytes:
    return record(http(HTML.format(text).encode()), name=name)


def archive(records: list[bytes]) -> bytes:
    """As crawlers write it: a gzip member per record."""
    return b"".join(gzip.compress(each, mtime=0) for each in records)


@pytest.mark.parametrize("suffix", [".warc", ".warc.gz"])
def test_pages_become_documents(tmp_path: Path, files: Any, read: Any, suffix: str) -> None:
    latin = http(HTML.format("caf\xe9").encode("latin-1"), "text/html; charset=iso-8859-1")
    packed = http(gzip.compress(HTML.format("packed").encode()), Content_Encoding="gzip")
    chunked = http(b"4\r\n<p>c\r\n6\r\nhunked\r\n0\r\n\r\n", Transfer_Encoding="chunked")
    records = [
        record(b"software: x\r\n", "warcinfo"),
        record(b"GET / HTTP/1.1\r\n\r\n", "request"),
        page("one", "One\u2019s page"),
        record(latin, name="two"),
        record(packed, name="packed"),
        record(chunked, name="chunked"),
        record(http(b"%PDF", "application/pdf"), name="pdf"),
        record(http(b"gone", status=404), name="gone"),
        record(http(b"<html></html>"), name="blank"),
        record(b"A text \xc3\xa9", "conversion", "wet", WARC_Identified_Content_Language="eng"),
        record(http(b"a plain text", "text/plain"), WARC_Target_URI=""),
    ]
    content = b"".join(records) if suffix == ".warc" else archive(records)
    (tmp_path / f"crawl{suffix}").write_bytes(content)
    reading = read(files(tmp_path))
    file = f"crawl{suffix}"
    assert reading.texts == {
        "mine/urn:uuid:one": "One\u2019s page",
        "mine/urn:uuid:two": "caf\xe9",
        "mine/urn:uuid:packed": "packed",
        "mine/urn:uuid:chunked": "chunked",
        "mine/urn:uuid:wet": "A text \xe9",
        f"mine/{file}:11": "a plain text",
    }
    assert reading.row["left_out"] == (
        "1 neither HTML nor plain text (records); 1 pages without text (records); 1 request "
        "(records); 1 warcinfo (records); 1 with an HTTP status other than 200 (records)"
    )
    assert (reading.row["missing_ids"], reading.row["quarantined"]) == (1, 0)
    by_id = {document.id: document for document in reading.documents}
    date = "2020-02-03T04:05:06Z"
    assert by_id["mine/urn:uuid:one"].created == date
    url = {"file": file, "url": "https://example.org/wet", "date": date, "language": "eng"}
    assert by_id["mine/urn:uuid:wet"].metadata == url
    assert by_id[f"mine/{file}:11"].metadata == {"file": file, "date": date}


def test_a_page_can_be_excluded_by_its_url(tmp_path: Path, files: Any, read: Any) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.warc").write_bytes(page("one", "One") + page("two", "Two"))
    (tmp_path / "list").write_text("url: https://example.org/one\n")
    source = files(tmp_path / "texts", exclude_documents=str(tmp_path / "list"))
    assert list(read(source).texts) == ["mine/urn:uuid:two"]
    assert set(source_identity([source])["packages"]) == {"fastwarc", "resiliparse"}


BLOCK = http(HTML.format("fine").encode())
DIGEST = "sha1:" + b32encode(hashlib.sha1(BLOCK).digest()).decode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(BLOCK[:-20] + b"?" * 20, WARC_Block_Digest=DIGEST), "its bytes are not those of"),
        (record(http(b"no gzip", Content_Encoding="gzip")), "expected a whole HTTP answer"),
        (record(b"no http at all"), "expected a whole HTTP answer"),
    ],
)
def test_a_bad_record_is_refused_by_its_place(
    tmp_path: Path, files: Any, read: Any, bad: bytes, reason: str
) -> None:
    whole = record(BLOCK, name="whole", WARC_Block_Digest=DIGEST)
    (tmp_path / "a.warc").write_bytes(whole + bad + page("last", "Last"))
    with pytest.raises(InputError, match=rf"a\.warc: record 2, at byte {len(whole)}: .*{reason}"):
        read(files(tmp_path))
    reading = read(files(tmp_path, bad_documents="quarantine"))
    assert list(reading.texts) == ["mine/urn:uuid:whole", "mine/urn:uuid:last"]
    [row] = reading.quarantined
    assert (row["file"], row["record"], row["offset"]) == ("a.warc", 2, len(whole))


def test_digests_are_compared_where_they_can_be(tmp_path: Path, files: Any, read: Any) -> None:
    hexadecimal = hashlib.sha256(BLOCK).hexdigest()
    good = {"dashed": f"sha-256:{hexadecimal}", "of-another-kind": "blake3:" + "0" * 64}
    records = [record(BLOCK, name=n, WARC_Block_Digest=digest) for n, digest in good.items()]
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    assert list(read(files(tmp_path)).texts) == [f"mine/urn:uuid:{name}" for name in good]
    bad = record(BLOCK + b"?", name="bad", WARC_Block_Digest=good["dashed"])
    (tmp_path / "a.warc").write_bytes(b"".join([*records, bad]))
    with pytest.raises(InputError, match=r"record 3, .*: its bytes are not those of its WARC-Bl"):
        read(files(tmp_path))


@pytest.mark.parametrize(
    ("charset", "written"),
    [("utf8mb4", "utf-8"), ("none", "utf-8"), ("base64", "utf-8"), ("windows-31j", "shift_jis")],
)
def test_a_charset_that_python_does_not_know_is_no_fault_of_the_page(
    tmp_path: Path, files: Any, read: Any, charset: str, written: str
) -> None:
    text = "\u732b\u3068\u72ac" * 9
    body = HTML.format(text).encode(written)
    (tmp_path / "a.warc").write_bytes(record(http(body, f"text/html; charset={charset}"), name="x"))
    assert read(files(tmp_path)).texts == {"mine/urn:uuid:x": text}


@pytest.mark.parametrize("bad_documents", ["fail", "quarantine"])
@pytest.mark.parametrize(
    ("suffix", "cut"), [("", 8), ("", 200), ("", 290), (".gz", 1), (".gz", 99)]
)
def test_a_file_that_breaks_off_is_refused(
    tmp_path: Path, files: Any, read: Any, bad_documents: str, suffix: str, cut: int
) -> None:
    records = [page("one", "One"), page("two", "Two")]
    content = archive(records) if suffix else b"".join(records)
    (tmp_path / f"a.warc{suffix}").write_bytes(content[:-cut])
    message = rf"a\.warc{suffix}: the WARC file is truncated or damaged after record [01] \("
    with pytest.raises(InputError, match=message):
        read(files(tmp_path, bad_documents=bad_documents))


def test_records_beyond_the_bound_are_counted(
    tmp_path: Path, files: Any, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warc, "MAX_RECORD_BYTES", 1 << 20)
    large = record(http(b"x" * (1 << 20), "text/plain"), name="large")
    packed = gzip.compress(b"y" * ((1 << 20) + 1))  # of a kilobyte
    packed = record(http(packed, "text/plain", Content_Encoding="gzip"), name="packed")
    whole = record(http(gzip.compress(b"z" * (1 << 20)), Content_Encoding="gzip"), name="whole")
    content = page("one", "One") + large + packed + whole + page("two", "Two")
    (tmp_path / "a.warc").write_bytes(content)
    reading = read(files(tmp_path, max_document_bytes=2 << 20))
    names = ("one", "whole", "two")
    assert list(reading.texts) == [f"mine/urn:uuid:{name}" for name in names]
    assert reading.row["left_out"] == "2 larger than 1 MiB (records)"
