"""Where pip is told to take packages from, told to uv, which does not read pip's configuration."""

import ast
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

# A later section overrides an earlier one, as in pip: the command's own, then PIP_* variables.
SECTIONS = ("global", "install", ":env:")


@dataclass(frozen=True, kw_only=True)
class UvSettings:
    """Command-line options and environment variables that make uv look where pip looks."""

    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the person at the terminal; no address in them


def read_pip_configuration(python: Path | str) -> dict[str, str]:
    """pip's settings by option name, from its files and PIP_* variables."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    return parse_pip_configuration(listed.stdout)


def parse_pip_configuration(listing: str) -> dict[str, str]:
    """Read what `pip config list` prints, lines such as `global.find-links='/srv/wheels'`."""
    sections: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    for line in listing.splitlines():
        key, equals, value = line.partition("=")
        section, dot, option = key.rpartition(".")
        if equals and dot and section in sections:
            sections[section][option.replace("_", "-")] = str(ast.literal_eval(value))
    merged: dict[str, str] = {}
    for name in SECTIONS:
        merged |= {option: value for option, value in sections[name].items() if value.strip()}
    return merged


def uv_settings(pip: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> UvSettings:
    """uv's options for pip's settings; a UV_* variable that is already set stays in force."""
    options: list[str] = []
    notes: list[str] = []
    find_links = _reachable(pip.get("find-links", ""), "find-links", notes)
    indexes = _reachable(pip.get("extra-index-url", ""), "extra indexes", notes)
    for place in find_links:
        options += ["--find-links", place]
    for address in indexes:
        options += ["--index", address]
    if indexes:
        # pip takes the best version of all indexes; uv would take the first index's.
        options += ["--index-strategy", "unsafe-best-match"]
    own_index = bool({"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & set(environ))
    if "index-url" in pip and not own_index:
        options += ["--default-index", pip["index-url"].strip()]
        notes.append("an index in place of PyPI")
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
        notes.append("no index at all")
    for host in pip.get("trusted-host", "").split():
        options += ["--allow-insecure-host", host]
    return UvSettings(
        options=tuple(options), variables=_variables(pip, environ), notes=tuple(notes)
    )


def _variables(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    timeout = pip.get("timeout") or pip.get("default-timeout")
    certificates = (
        pip.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    )
    wanted = {
        "SSL_CERT_FILE": certificates,
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "UV_HTTP_TIMEOUT": timeout,
        "HTTPS_PROXY": pip.get("proxy"),
        "HTTP_PROXY": pip.get("proxy"),
    }
    return {
        name: value
        for name, value in wanted.items()
        if value and name not in environ and name.lower() not in environ
    }


def _reachable(value: str, what: str, notes: list[str]) -> list[str]:
    """The places named in `value`, less local folders that are not there."""
    kept: list[str] = []
    missing = 0
    for place in value.split():
        local = _local_folder(place)
        if local is not None and not local.exists():
            missing += 1
        else:
            kept.append(place if local is None or place.startswith("file:") else str(local))
    if kept:
        notes.append(f"{what}: {len(kept)}")
    if missing:
        notes.append(f"{what} left out, not there: {missing}")
    return kept


def _local_folder(place: str) -> Path | None:
    """The folder that a path or a file: address names; None for a remote address."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        return None
    return Path(place).expanduser().absolute()
