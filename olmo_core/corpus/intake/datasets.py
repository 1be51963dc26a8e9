"""The files of a Hugging Face dataset at a commit: huggingface_hub fetches, resumes, keeps them."""

import glob
import importlib
import os
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing import TimeoutError as NotYet
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, TypeVar

from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.intake.splits import CARD, chosen_files
from olmo_core.errors import InputError, Stopped
from olmo_core.remote.download import Progress

REPORT_SECONDS = 1.0
BYTES = "huggingface_hub.snapshot_download"  # its bar of bytes on the disk
T = TypeVar("T")


def dataset_files(source: SourceConfig, progress: Progress) -> dict[str, Path]:
    """Return the files of a dataset at its commit, by their paths; what is not there is fetched.

    Args:
        source: Which.
        progress: Told once a second, and at the end, how much has come; what it raises ends it all.

    Raises:
        InputError: files are missing, or cannot be fetched; no file matches; there is no such
            subset or split.
    """
    errors: Any = importlib.import_module("huggingface_hub.errors")
    utils: Any = importlib.import_module("huggingface_hub.utils")
    where = f"source {source.name}: dataset {source.dataset}, revision {source.revision}"
    try:
        folder, patterns = _watched(partial(_fetch, source, where), utils.tqdm, progress)
    except errors.CachedRepoTreeNotFoundError:
        raise InputError(
            f"{where}: whether all of its files are there is not known; run it once with a network "
            "and an HF_HUB_CACHE that can be written"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"{where}: not there, or not to be read by us ({str(error).splitlines()[0]}); expected "
            "a dataset and one of its commits, and a token (HF_TOKEN) where it is gated"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise InputError(
            f"{where}: cannot be fetched ({str(error).splitlines()[0]}); what has come is kept: "
            "run it again with a network"
        ) from None
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    # The folder is shared: other patterns may have brought other files.
    found = utils.filter_repo_objects(names, allow_patterns=patterns)
    if not (kept := {name: names[name] for name in found}):
        raise InputError(f"{where}: no file matches {patterns}")
    return kept


def _fetch(source: SourceConfig, where: str, bar: type[Any]) -> tuple[str, list[str] | None]:
    """Fetch the files of a source; return their folder, and the patterns that name them there."""
    if not (source.subset or source.split):
        patterns = list(source.data_files) or None
        return _snapshot(source, patterns, bar)[0], patterns
    folder, names = _snapshot(source, [CARD], bar)
    card = Path(folder, CARD)
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    patterns = [glob.escape(name) for name in chosen_files(source, names, text, where)]
    return _snapshot(source, patterns, bar)[0], patterns


def _snapshot(
    source: SourceConfig, patterns: list[str] | None, bar: type[Any]
) -> tuple[str, list[str]]:
    """Bring the files that match; return their folder, and the paths of all of the dataset's."""
    hub: Any = importlib.import_module("huggingface_hub")
    which = {"repo_type": "dataset", "revision": source.revision}
    folder = hub.snapshot_download(
        source.dataset,
        allow_patterns=patterns,
        endpoint=os.environ.get("HF_ENDPOINT"),
        tqdm_class=bar,
        **which,
    )
    # Without a network it returns what is there, and knows by this list alone if that is all.
    return folder, [file.path for file in hub.get_cached_repo_tree(source.dataset, **which)]


def _watched(fetch: Callable[[type[Any]], T], tqdm: type[Any], progress: Progress) -> T:
    """Call `fetch` in a thread, and report meanwhile; what `progress` raises ends both.

    Args:
        fetch: Takes the class of bars that its downloads are to advance.
        tqdm: The hub's own such class.
        progress: Called by this thread.
    """
    stop = threading.Event()
    bars: dict[str, Any] = {}

    def begin(bar: Any, *args: Any, **named: Any) -> None:
        bars[named.get("name") or "files"] = bar
        tqdm.__init__(bar, *args, **{**named, "disable": True})

    def advance(bar: Any, n: float | None = 1) -> None:
        if stop.is_set():
            raise Stopped("fetching a dataset was stopped")
        bar.n += n or 0

    # Its bars show nothing: they count, and end what advances them once all is to stop.
    bar = type("Bar", (tqdm,), {"__init__": begin, "update": advance})

    def report() -> None:
        size, files = (bars.get(name) for name in (BYTES, "files"))
        if size is not None and files is not None:
            progress(int(size.n), int(size.total or 0), f"{files.n} of {files.total} files")

    # A daemon: a server that does not answer does not keep a process from ending.
    thread = ThreadPool(1)
    try:
        result = thread.apply_async(fetch, (bar,))
        while True:
            try:
                fetched = result.get(timeout=REPORT_SECONDS)
            except NotYet:
                report()
                continue
            report()
            return fetched
    finally:
        stop.set()
        thread.close()
