"""Read web archives: the pages of WARC files, plain or `.gz`, as text.

HTML becomes text by resiliparse's extraction of what is a page's own content. Records that hold no
page are counted by what they are.
"""

import contextlib
import gzip
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from olmo_core.corpus.document import UNDATED
from olmo_core.corpus.intake.passages import LeftOut, Passage, Refused
from olmo_core.errors import InputError

SUFFIXES = tuple(f".warc{kind}{packed}" for kind in ("", ".wet") for packed in ("", ".gz"))
PACKAGES = ("fastwarc", "resiliparse")  # whose versions decide the text
MAX_RECORD_BYTES = 64 * 2**20  # a record is held in memory
_END = b"\r\n\r\n"  # behind every record
_DIGESTS = ("md5", "sha1", "sha256", "sha512")  # that fastwarc compares
_HTML = ("text/html", "application/xhtml+xml")
# An answer of a server, a file by itself, and text that someone has made of a page.
_KINDS = ("response", "resource", "conversion")
_OTHERS = ("request", "metadata", "warcinfo", "revisit", "continuation")


def read(path: Path) -> Iterator[Passage | Refused | LeftOut]:
    """Yield the text of each page, in the order of the records.

    Raises:
        InputError: the file is not whole: of such a file no record is known to be.
    """
    warc: Any = importlib.import_module("fastwarc.warc")
    damaged = importlib.import_module("isal.isal_zlib").error
    number = 0
    try:
        with _opened(path) as stream:
            records = warc.ArchiveIterator(stream, stream_detect=False, parse_http=False)
            for record in records:
                declared = record.headers.get("Content-Length")
                if declared is None:
                    raise EOFError("a record without its length")
                if record.content_length > MAX_RECORD_BYTES:
                    yield _too_large()
                    number += 1
                    continue
                record.freeze()
                if record.content_length != int(declared):
                    raise EOFError(f"{record.content_length} of a record's {declared} bytes")
                number += 1
                yield _page(record, path, number)
            _require_end(path, stream, number)
    except (EOFError, OSError, ValueError, gzip.BadGzipFile, damaged) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the system's, such as a disk that does not answer
        raise InputError(
            f"{path}: the WARC file is truncated or damaged after record {number} ({error}); "
            "expected a whole file: copy it again"
        ) from None


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        # Its checksums are compared; fastwarc takes a stream that breaks off for one that ends.
        return cast(BinaryIO, importlib.import_module("isal.igzip").open(path, "rb"))
    return path.open("rb")


def _require_end(path: Path, stream: BinaryIO, number: int) -> None:
    """Refuse a file that holds no record, or one that is not gzipped and breaks off behind one."""
    if not number:
        raise EOFError("no record")
    if path.suffix != ".gz":
        stream.seek(-len(_END), os.SEEK_END)
        if stream.read() != _END:
            raise EOFError("the blank lines behind it are missing")


def _page(record: Any, path: Path, number: int) -> Passage | Refused | LeftOut:
    """Return the page of a record, held in memory."""
    kind = record.headers.get("WARC-Type")
    if kind not in _KINDS:
        return LeftOut(f"{kind if kind in _OTHERS else 'unknown'} (records)")
    try:
        if not _has_its_digest(record):
            raise ValueError("its bytes are not those of its WARC-Block-Digest")
        content, charset = record.reader.read(), None
        content_type = record.headers.get("Content-Type") or ""
        if content_type.startswith("application/http"):
            answer = _answer(content)
            if answer.http_headers.status_code != 200:
                return LeftOut("with an HTTP status other than 200 (records)")
            # One that is packed may be a thousand times as large.
            content, charset = answer.reader.read(MAX_RECORD_BYTES + 1), answer.http_charset
            if len(content) > MAX_RECORD_BYTES:
                return _too_large()
            content_type = answer.http_headers.get("Content-Type") or ""
        media = content_type.partition(";")[0].strip().lower()
        if media not in (*_HTML, "text/plain"):
            return LeftOut("neither HTML nor plain text (records)")
        text = _text(content, charset, media in _HTML)
        metadata = _metadata(record)
    except (OSError, ValueError, LookupError, EOFError) as error:
        where = f"{path}: record {number}, at byte {record.stream_pos}"
        return Refused(
            error=InputError(f"{where}: {error}; expected a whole HTTP answer, or a whole text"),
            place={"record": number, "offset": record.stream_pos},
        )
    if not text.strip():
        return LeftOut("pages without text (records)")
    name = (record.headers.get("WARC-Record-ID") or "").strip("<> ")
    return Passage(
        name=name,
        text=text,
        line=number,
        id_was="text" if name else "missing",
        created=metadata.get("date", UNDATED),
        metadata=metadata,
    )


def _too_large() -> LeftOut:
    return LeftOut(f"larger than {MAX_RECORD_BYTES >> 20} MiB (records)")


def _has_its_digest(record: Any) -> bool:
    """Return whether a record holds what its digest says; True where none can be compared."""
    algorithm, _, digest = (record.headers.get("WARC-Block-Digest") or "").partition(":")
    algorithm = algorithm.strip().lower().replace("sha-", "sha")  # some crawlers write sha-256
    if algorithm not in _DIGESTS:
        return True
    record.headers["WARC-Block-Digest"] = f"{algorithm}:{digest}"
    return record.verify_block_digest()


def _answer(content: bytes) -> Any:
    """Return an HTTP answer as a record of its own: one that is broken ends no iteration."""
    warc: Any = importlib.import_module("fastwarc.warc")
    head = b"WARC/1.1\r\nWARC-Type: response\r\nContent-Type: application/http\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(content)
    record = warc.WarcRecord.from_bytes(head + length + content + b"\r\n\r\n")
    record.parse_http(auto_decode="all")
    if record.http_headers is None or record.http_headers.status_code is None:
        raise ValueError("no HTTP answer")
    return record


def _text(content: bytes, charset: str | None, is_html: bool) -> str:
    text = _decoded(content, charset, is_html)
    if is_html:
        extract: Any = importlib.import_module("resiliparse.extract.html2text")
        text = extract.extract_plain_text(text, main_content=True, alt_texts=False)
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode()


def _decoded(content: bytes, charset: str | None, is_html: bool) -> str:
    """Return a page as text, by the charset that its server names where Python or HTML knows it."""
    encoding: Any = importlib.import_module("resiliparse.parse.encoding")
    if charset:
        for known in (charset, encoding.map_encoding_to_html5(charset, fallback_utf8=False)):
            # Servers send any word; browsers look at the page then.
            with contextlib.suppress(LookupError, ValueError):
                if known:
                    return encoding.bytes_to_str(content, known)
    return encoding.bytes_to_str(content, encoding.detect_encoding(content, from_html_meta=is_html))


def _metadata(record: Any) -> dict[str, str]:
    """Return what a record says of itself, where it says it."""
    names = {
        "url": "WARC-Target-URI",
        "date": "WARC-Date",
        "language": "WARC-Identified-Content-Language",
    }
    found = {key: (record.headers.get(name) or "").strip("<> ") for key, name in names.items()}
    return {key: value for key, value in found.items() if value}
