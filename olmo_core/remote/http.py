"""Reading over http(s) by urllib3, on connections that are kept.

fsspec's own client reads a whole body where a server ignores the range asked for, and its event
loop does not survive a fork. Proxies are those of the environment.
"""

import contextlib
import functools
import logging
import os
import re
from collections.abc import Generator, Iterator, Mapping
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from olmo_core.errors import InputError
from olmo_core.remote.storage import Busy, Changed, Missing, RemoteFile

_STREAM_BYTES = 1 << 20
_TEMPORARY_STATUS = (408, 425, 429)  # and 5xx
_KEPT_CONNECTIONS = 64  # per host: more than threads that read (`olmo_core.data.files`)
_TIMEOUT = urllib3.Timeout(60.0)  # seconds to connect, and without a byte
# urllib3 follows redirects. Whatever else fails is raised at once: the caller tries again.
_REDIRECTS = urllib3.Retry(
    10, connect=False, read=False, respect_retry_after_header=False, retry_after_max=300
)

# It would write redirects, and with them signed addresses, into the log.
logging.getLogger("urllib3").setLevel(logging.WARNING)


def http_stat(url: str) -> RemoteFile:
    """Return size and version of a file.

    Raises:
        InputError: an answer that a repetition would not change.
        OSError, HTTPError: anything that may pass.
    """
    # a GET of one byte: what may be read by GET alone (signed addresses) answers no HEAD
    with _get(url, "0-0") as response:
        version, length = _version(response), response.headers.get("Content-Length") or ""
        sent = response.headers.get("Content-Range") or ""
        if response.status == 416 and sent == "bytes */0":
            return RemoteFile(size=0, version="")
        total = re.fullmatch(r"bytes 0-0/(\d+)", sent)
        if response.status == 206 and total:
            response.read(1)  # to its end, so that the connection is kept
            return RemoteFile(size=int(total[1]), version=version)
    if response.status == 416 or not length.isdigit():
        raise InputError(f"{url}: the server does not say how large the file is")
    return RemoteFile(size=int(length), version=version, ranges=False)


def http_range(url: str, start: int, stop: int, *, of: RemoteFile | None = None) -> bytes:
    """Return bytes `start` to `stop`, or fewer if the connection ends early.

    Raises as `http_stat`.
    """
    with _get(url, f"{start}-{stop - 1}") as response:
        whole = start == 0 and response.headers.get("Content-Length") == str(stop)
        if response.status not in (206, 416) and not whole:
            raise InputError(f"{url}: its server answers no byte ranges; give a local copy")
        sent = response.headers.get("Content-Range") or f"bytes {start}-{stop - 1}/{stop}"
        total = re.fullmatch(rf"bytes (?:{start}-\d+|\*)/(\d+)", sent)
        if total is None:
            raise HTTPError(f"asked for bytes from {start} on, sent {sent}")
        now = RemoteFile(size=int(total[1]), version=_version(response))
        if of is not None and now != of:
            raise Changed(url, of, now)
        if now.size < stop or response.status == 416:
            raise InputError(f"{url}: asked for bytes past its end, it has {now.size}")
        return response.read(stop - start)


def http_stream(url: str) -> Iterator[bytes]:
    """Yield a whole file in pieces, from a server without ranges; raises as `http_stat`."""
    with _get(url) as response:
        while piece := response.read(_STREAM_BYTES):
            yield piece


def http_from(url: str, start: int, *, of: RemoteFile) -> Iterator[tuple[int, bytes]]:
    """Yield the file from `start`, or from 0 if the server sends it whole, to its end.

    `If-Range` asks for the whole file if it is not `of` any more, so that no two versions meet.

    Raises:
        Changed: it is not `of` any more.
        InputError, OSError, HTTPError: as `http_stat`; a body that ends early is an HTTPError.
    """
    asked = f"{start}-" if of.ranges else None
    with _get(url, asked, if_range=of.version if start else "") as response:
        total = response.headers.get("Content-Length") or ""
        if response.status in (206, 416):
            sent = response.headers.get("Content-Range") or ""
            found = re.fullmatch(rf"bytes (?:{start}-\d+|\*)/(\d+)", sent)
            if found is None:
                raise HTTPError(f"asked for bytes from {start} on, sent {sent or 'nothing'}")
            total = found[1]
        else:
            start = 0
        if not total.isdigit():
            raise HTTPError("the server does not say how large the file is")
        now = RemoteFile(size=int(total), version=_version(response), ranges=of.ranges)
        if now != of or response.status == 416:
            raise Changed(url, of, now)
        while piece := response.read(_STREAM_BYTES):
            yield start, piece
            start += len(piece)
        if start != of.size:
            raise HTTPError(f"ends after {start} of {of.size} bytes")


def http_post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float
) -> tuple[int, float]:
    """Send a body once, to this address alone: no redirect is followed.

    Returns the status, and the seconds that the server asks to wait (0: it does not ask).

    Raises:
        OSError, HTTPError: there is no answer. Their text may hold the address.
    """
    response = _pool(os.getpid(), _proxy(url)).request(
        "POST",
        url,
        body=body,
        headers={"User-Agent": "olmo", **headers},
        timeout=urllib3.Timeout(timeout_seconds),
        retries=False,
        redirect=False,
        preload_content=False,
    )
    with contextlib.closing(response):  # of the body nothing is read: it may be endless
        wait = _REDIRECTS.get_retry_after(response) if response.status >= 300 else None
        return response.status, wait or 0.0


def _version(response: urllib3.BaseHTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


@contextlib.contextmanager
def _get(
    url: str, byte_range: str | None = None, *, if_range: str = ""
) -> Generator[urllib3.BaseHTTPResponse]:
    """Yield the answer; its connection is kept if the body has been read to its end."""
    headers = {"User-Agent": "olmo", "Accept-Encoding": "identity"}
    if byte_range is not None:
        headers["Range"] = f"bytes={byte_range}"
    if if_range:
        headers["If-Range"] = if_range
    response = _pool(os.getpid(), _proxy(url)).request(
        "GET",
        url,
        headers=headers,
        timeout=_TIMEOUT,
        retries=_REDIRECTS,
        preload_content=False,
        decode_content=False,
    )
    with contextlib.closing(response):
        if response.status >= 500 or response.status in _TEMPORARY_STATUS:
            wait = _REDIRECTS.get_retry_after(response)
            raise Busy(f"HTTP {response.status} {response.reason}", retry_after=wait or 0.0)
        beyond = response.status == 416 and "bytes */" in response.headers.get("Content-Range", "")
        if response.status >= 400 and not beyond:
            # Object stores say 403 of what is not there to those who may not list.
            kind = Missing if response.status in (403, 404, 410) else InputError
            raise kind(f"{url}: HTTP {response.status} {response.reason}")
        yield response


@functools.cache
def _pool(process: int, proxy: str | None) -> urllib3.PoolManager:
    """Return the connections of one process: after a fork both would read from the same ones."""
    if proxy is None:
        return urllib3.PoolManager(maxsize=_KEPT_CONNECTIONS)
    user = parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=_KEPT_CONNECTIONS)


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address; None: there is none."""
    address = urlsplit(url)
    proxy = getproxies().get(address.scheme)
    if not proxy or proxy_bypass(address.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
