"""Sources that lie elsewhere, brought to the disk before they are read: then they are folders.

`huggingface`: the files of a dataset at a commit, by huggingface_hub, which resumes and keeps them.
`urls`: a list of files, as Dolma publishes its own, by our downloads, kept in the cache.
"""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from olmo_core import environment
from olmo_core.corpus.intake.datasets import dataset_files
from olmo_core.corpus.intake.lists import read_list
from olmo_core.corpus.intake.sources import SourceConfig, named_place
from olmo_core.corpus.intake.splits import CARD
from olmo_core.errors import InputError
from olmo_core.remote.address import mark
from olmo_core.remote.cache import cache_path
from olmo_core.remote.download import Progress, download_files
from olmo_core.remote.transfer import Wanted

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def brought(source: SourceConfig, folder: Path, progress: Progress) -> SourceConfig:
    """Return a source whose files are on this machine, in a folder; others as they are.

    Args:
        source: Which.
        folder: To make, for links to the files.
        progress: Told how much has come.

    Raises:
        InputError: files are missing, or what comes is not what is wanted.
    """
    left_out = source.exclude
    if source.dataset:
        if not (source.data_files or source.include):
            left_out = (*left_out, CARD)
        files = dataset_files(source, progress)
    elif source.urls:
        files = _listed(source, progress)
    else:
        return source
    for name, path in files.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # of an earlier attempt
        link.symlink_to(path.absolute())
    return replace(
        source,
        reader="files",
        root=str(folder.absolute()),
        dataset="",
        revision="",
        data_files=(),
        subset="",
        split="",
        urls="",
        exclude=left_out,
    )


def read_urls(path: Path) -> dict[str, str | None]:
    """Return the SHA-256 of each URL of a list, where the list gives one.

    Raises:
        InputError: a line that is not a URL, or a URL and a SHA-256; one URL twice; no URL.
    """
    urls: dict[str, str | None] = {}
    for number, line in read_list(path):
        url, digest, *_ = [*line.split(maxsplit=1), ""]
        if "://" not in url or (digest and not _SHA256.fullmatch(digest)):
            raise InputError(
                f"{path}:{number}: found {line[:120]!r}; expected a URL, and behind it nothing or "
                "the file's SHA-256 in 64 hexadecimal digits"
            )
        if url in urls:
            raise InputError(f"{path}:{number}: {url} stands there twice; expected each URL once")
        urls[url] = digest.lower() or None
    if not urls:
        raise InputError(f"{path}: no URL; expected one per line")
    return urls


def _listed(source: SourceConfig, progress: Progress) -> dict[str, Path]:
    """Return the files of a list, by the hosts and paths of their URLs.

    Raises:
        InputError: two would have one name; as `download_files`.
    """
    cache, path = environment.cache(), named_place(source, "urls")
    urls = read_urls(path)
    names = [_file_name(url) for url in urls]
    if len(set(names)) < len(names):
        [(name, _)] = Counter(names).most_common(1)
        raise InputError(f"{path}: two URLs of one file, {name}; expected each file once")
    wanted = [Wanted(url=url, path=cache_path(url, cache), sha256=d) for url, d in urls.items()]
    files = download_files(wanted, progress=progress)
    return {name: file.path for name, file in zip(names, files, strict=True)}


def _file_name(url: str) -> str:
    """Return the name of a file of a list: its host and path, since ids and texts may show it.

    A mark of its query stands in front, so that its suffix says what it is; who asks is left out.
    """
    address = urlsplit(url)
    host = address.netloc.rpartition("@")[2]
    path = cache_path(address._replace(netloc=host, query="").geturl(), Path())
    if address.query:
        path = path.with_name(f"{mark(address.query)}@{path.name}")
    return path.as_posix()


def names_ahead(source: SourceConfig) -> list[str]:
    """Return what is known of the names of a source's files, or of their ends, before they come.

    Raises:
        ConfigError: its list is not there.
    """
    if not source.urls:
        return [*source.data_files, *source.include] if source.dataset else []
    try:
        return [_file_name(url) for url in read_urls(named_place(source, "urls"))]
    except InputError:
        return []  # it is refused by the job: a recipe's graph is shown all the same
