"""Reading over http(s) with the standard library.

fsspec's own client reads a whole body where a server ignores the range asked for, and its event
loop does not survive a fork. Proxies are those of the environment.
"""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import cast

from olmo_core.errors import InputError

_TIMEOUT_SECONDS = 60.0  # without a byte
_STREAM_BYTES = 1 << 20
_TEMPORARY_STATUS = (408, 425, 429)  # and 5xx


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """What is known of a remote file without reading it.

    Attributes:
        size: In bytes.
        version: Changes when the file does, as far as its server tells (ETag, time); else "".
        ranges: Whether a part can be read alone.
    """

    size: int
    version: str
    ranges: bool = True


class Missing(InputError):
    """There is no such file, or none that we may know of."""


class Changed(InputError):
    """A file is no longer what it was when it was first looked at."""

    def __init__(self, url: str, before: RemoteFile, now: RemoteFile) -> None:
        was, is_now = (f"{file.size} bytes, version {file.version!r}" for file in (before, now))
        super().__init__(f"{url}: changed while in use: it was {was}; now it is {is_now}")


def http_stat(url: str) -> RemoteFile:
    """Size and version of a file.

    Raises:
        InputError: an answer that a repetition would not change.
        OSError, HTTPException: anything that may pass.
    """
    # a GET of one byte: what may be read by GET alone (signed addresses) answers no HEAD
    try:
        response = _get(url, "0-0")
    except _PastTheEnd as error:
        if error.size == 0:
            return RemoteFile(size=0, version="")
        raise
    with response:
        headers = response.headers
        version = _version(response)
        total = re.fullmatch(r"bytes 0-0/(\d+)", headers.get("Content-Range") or "")
        if response.status == 206 and total:
            return RemoteFile(size=int(total[1]), version=version)
        if not (headers.get("Content-Length") or "").isdigit():
            raise InputError(f"{url}: the server does not say how large the file is")
        return RemoteFile(size=int(headers["Content-Length"]), version=version, ranges=False)


def http_range(url: str, start: int, stop: int, *, of: RemoteFile | None = None) -> bytes:
    """Bytes `start` to `stop`, or fewer if the connection ends early; raises as `http_stat`."""
    with _get(url, f"{start}-{stop - 1}") as response:
        whole = start == 0 and response.headers.get("Content-Length") == str(stop)
        if response.status != 206 and not whole:
            raise InputError(f"{url}: its server answers no byte ranges; give a local copy")
        sent = response.headers.get("Content-Range") or f"bytes {start}-{stop - 1}/{stop}"
        total = re.fullmatch(rf"bytes {start}-\d+/(\d+)", sent)
        if total is None:
            raise HTTPException(f"asked for bytes from {start} on, sent {sent}")
        now = RemoteFile(size=int(total[1]), version=_version(response))
        if of is not None and now != of:
            raise Changed(url, of, now)
        if int(total[1]) < stop:
            raise _PastTheEnd(url, int(total[1]))
        return response.read(stop - start)


def http_stream(url: str) -> Iterator[bytes]:
    """A whole file in pieces, from a server without ranges; raises as `http_stat`."""
    with _get(url) as response:
        while piece := response.read(_STREAM_BYTES):
            yield piece


class _PastTheEnd(InputError):
    def __init__(self, url: str, size: int) -> None:
        super().__init__(f"{url}: asked for bytes past its end, it has {size}")
        self.size = size


def _version(response: HTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _get(url: str, byte_range: str | None = None) -> HTTPResponse:
    headers = {"User-Agent": "olmo", "Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range}"
    request = urllib.request.Request(url, headers=headers)
    try:
        return cast(HTTPResponse, urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS))
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code in _TEMPORARY_STATUS:
            raise
        size = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if error.code == 416 and size:
            raise _PastTheEnd(url, int(size[1])) from error
        # Object stores say 403 of what is not there to those who may not list.
        kind = Missing if error.code in (403, 404, 410) else InputError
        raise kind(f"{url}: HTTP {error.code} {error.reason}") from error
