"""Addresses of what lies elsewhere, in the places of a configuration that also take local paths."""


def is_remote(place: str) -> bool:
    """Return whether `place` is to be read over http(s) or fsspec, rather than a local path."""
    return "://" in place
