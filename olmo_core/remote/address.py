"""How a URL is written down: without what may be secret, and told from other URLs all the same."""

import hashlib

from olmo_core.errors import redacted


def address(url: str) -> str:
    """Return a URL for a record: as it is, or redacted and with a mark of 48 bits of the whole.

    The mark is the beginning of its SHA-256, so that other secrets are another address.
    """
    shown = redacted(url)
    return url if shown == url else f"{shown} ({mark(url)})"


def mark(text: str) -> str:
    """Return 12 hexadecimal digits that tell a text from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
