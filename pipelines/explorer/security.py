"""What stands between a browser and the pages: only GETs of known hosts, and a strict policy.

The explorer asks nobody who they are. So it listens on loopback; and since any page that is open in
the same browser can send requests there, an answer goes only to whoever has asked for this host by
name (which a page of another site cannot, even when its name leads here: DNS rebinding).
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Nothing but this server's own files; no inline script or style, no frame, no form to elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # addresses name documents
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Refuse what is no GET of a known host, and send the policy with every answer.

    Args:
        app: What answers the rest.
        hosts: Names that the explorer is asked for by, without a port; others than loopback's are
            those of a proxy in front of it.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        app = self._app if scope["type"] == "http" else PlainTextResponse("only HTTP\n", 400)
        if host_of(Headers(scope=scope).getlist("host")) not in self._hosts:
            app = PlainTextResponse("this host is not served here\n", 421)
        elif scope["type"] == "http" and scope["method"] != "GET":
            app = PlainTextResponse("only GET\n", 405, headers={"allow": "GET"})
        await app(scope, receive, guarded)


def host_of(headers: list[str]) -> str | None:
    """Return the host that a request is for, without the port; None: none, or several."""
    if len(headers) != 1:
        return None
    host, colon, port = headers[0].lower().rpartition(":")
    if colon and port.isdecimal():
        return host
    return headers[0].lower()
