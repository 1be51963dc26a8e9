"""What went wrong in a set-up and what to do about it, from what pip and uv printed."""

import re
from collections.abc import Sequence
from pathlib import Path

OFFLINE = re.compile(
    r"dns error|client error \(Connect\)|error sending request|network connectivity is disabled"
    r"|NewConnectionError|ConnectTimeout|Name or service not known|Connection refused|timed out",
    re.IGNORECASE,
)
FULL = re.compile(r"No space left on device|os error 28|Disk quota exceeded", re.IGNORECASE)
# In order: what names the package best comes first.
PACKAGE = (
    re.compile(r"Failed to fetch: \S*/([A-Za-z0-9][\w.-]*)/?`?$", re.MULTILINE),
    re.compile(r"Failed to (?:download|build|prepare)[^`]*`([^`]+)`"),
    re.compile(r"there (?:is|are) no versions? of (\S+)"),
    re.compile(r"[Bb]ecause (\S+) was not found"),
    re.compile(r"No matching distribution found for (\S+)"),
)


class SetupError(Exception):
    """Set-up cannot go on; the message says why and what to do."""


def went_offline(output: str) -> bool:
    """Whether `output` of pip or uv tells of a network that did not answer."""
    return bool(OFFLINE.search(output))


def named_package(output: str) -> str:
    """The package that `output` of pip or uv could not have."""
    for pattern in PACKAGE:
        if found := pattern.search(output):
            return found[1].rstrip(",.")
    return "a package"


def no_space(folder: Path, free_bytes: int, needed_bytes: int) -> str:
    """The message for a disk that would be filled."""
    return (
        f"not enough disk: {folder} has {free_bytes / 1e9:.1f} GB free, "
        f"set-up needs about {needed_bytes / 1e9:.1f} GB\n"
        "  Free some, or clone to a larger disk."
    )


def no_python(environment: str, versions: Sequence[str], found: str, output: str, log: Path) -> str:
    """The message for an environment that no Python is here for, nor one that uv could install."""
    wanted = " or ".join(versions)
    why = "its download server does not answer" if went_offline(output) else output.strip()[-300:]
    return (
        f"the {environment} environment needs Python {wanted}. None that works is here:\n"
        f"{found.rstrip()}\n"
        f"  and uv could not install one: {why}\n"
        f"  Install Python {wanted} (pyenv, conda or your distribution), put it on PATH and run\n"
        "  it again; or give uv a network or a mirror (UV_PYTHON_INSTALL_MIRROR) to take it from;\n"
        "  or use the container, deploy/all-in-one.Dockerfile.\n"
        f"  All that was printed: {log}"
    )


def explain(output: str, log: Path) -> str:
    """One message for a failed pip or uv command; `log` holds all that it printed."""
    where = f"  All that was printed: {log}"
    if FULL.search(output):
        return (
            "the disk is full\n  Free about 4 GB, 8 GB where torch's CUDA build is taken, here\n"
            f"  and where uv keeps its cache (UV_CACHE_DIR moves it); run it again.\n{where}"
        )
    if went_offline(output):
        return (
            f"cannot get {named_package(output)}: the network does not answer, "
            "and no copy is cached\n"
            "  Connect this machine, or configure pip with an index or a folder of wheels that it\n"
            "  reaches (index-url, extra-index-url, find-links): set-up uses pip's configuration.\n"
            f"{where}"
        )
    last = "\n".join("  " + line for line in output.strip().splitlines()[-8:])
    return f"cannot install {named_package(output)}\n{last}\n{where}"
