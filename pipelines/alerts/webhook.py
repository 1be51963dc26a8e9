"""Post a message to a webhook, whose address is a secret: no error or log shows any of it."""

from urllib.parse import urlsplit

from olmo_core import environment
from olmo_core.errors import ConfigError

TIMEOUT_SECONDS = 5.0  # to connect, and without a byte of an answer
_BUSY_STATUS = (408, 425, 429)  # and 5xx: the same message may be taken later

# What urllib3 raises, by the name of its class: the text of its errors holds the address.
_WHY = {
    "ConnectTimeoutError": f"it did not answer within {TIMEOUT_SECONDS:.0f} s",
    "ReadTimeoutError": f"it did not answer within {TIMEOUT_SECONDS:.0f} s",
    "NameResolutionError": "the name of its host is not known",
    "NewConnectionError": "it cannot be connected to",
    "ProtocolError": "it dropped the connection",
    "ProxyError": "the proxy cannot be connected to",
    "SSLError": "its certificate is not trusted",
}


class NotDelivered(Exception):
    """A message was not taken, as far as is known.

    Args:
        why: Without the address.
        wait_seconds: That the webhook asks to be left alone; 0: it does not say.
        refused: It answered, and will hardly take the same message later.
    """

    def __init__(self, why: str, *, wait_seconds: float = 0.0, refused: bool = False) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds
        self.refused = refused


def webhook_url(variable: str) -> str:
    """Return the address of the webhook, which the environment variable holds.

    Raises:
        ConfigError: the variable is not set, or holds no address; its value is not shown.
    """
    url = environment.named(variable)
    if url is None:
        raise ConfigError(
            f"alerts.url_variable: {variable} is not set in the environment of this process; "
            "expected the address of the webhook"
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or any(character.isspace() for character in url):
        raise ConfigError(
            f"alerts.url_variable: the value of {variable}, which is not shown, is no address; "
            "expected https://…"
        )
    return url


def post(url: str, content: bytes, *, key: str) -> None:
    """Post JSON once; `key` tells the receiver that two posts are one message.

    Raises:
        NotDelivered: it was not taken, as far as is known.
    """
    from urllib3.exceptions import HTTPError  # urllib3 takes time, and definitions need none of it

    from olmo_core.remote.http import http_post

    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    try:
        status, wait_seconds = http_post(url, content, headers, timeout_seconds=TIMEOUT_SECONDS)
    except (HTTPError, OSError) as error:
        name = type(error).__name__
        raise NotDelivered(f"webhook: {_WHY.get(name, name)}") from None
    if not 200 <= status < 300:
        raise NotDelivered(
            f"webhook: HTTP {status}; expected 2xx",
            wait_seconds=wait_seconds,
            refused=status < 500 and status not in _BUSY_STATUS,
        )
