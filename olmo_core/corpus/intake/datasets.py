"""The files of a Hugging Face dataset at a commit: huggingface_hub fetches, resumes, keeps them."""

import importlib
import os
import threading
from collections.abc import Callable
from multiprocessing import TimeoutError as NotYet
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import InputError, Stopped
from olmo_core.remote.download import Progress

REPORT_SECONDS = 1.0
BYTES = "huggingface_hub.snapshot_download"  # its bar of bytes on the disk
CARD = "README.md"  # what a dataset is, and none of its text


def dataset_files(source: SourceConfig, progress: Progress) -> dict[str, Path]:
    """Return the files of a dataset at its commit, by their paths; what is not there is fetched.

    Args:
        source: Which.
        progress: Told once a second, and at the end, how much has come; what it raises ends it all.

    Raises:
        InputError: files are missing, or cannot be fetched; no file matches.
    """
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    utils: Any = importlib.import_module("huggingface_hub.utils")
    where = f"source {source.name}: dataset {source.dataset}, revision {source.revision}"
    patterns = list(source.data_files) or None

    def fetch(bar: type[Any]) -> str:
        folder = hub.snapshot_download(
            source.dataset,
            repo_type="dataset",
            revision=source.revision,
            allow_patterns=patterns,
            endpoint=os.environ.get("HF_ENDPOINT"),
            tqdm_class=bar,
        )
        # Without a network it returns what is there, and knows by this list alone if that is all.
        hub.get_cached_repo_tree(source.dataset, repo_type="dataset", revision=source.revision)
        return folder

    try:
        folder = _watched(fetch, utils.tqdm, progress)
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


def _watched(fetch: Callable[[type[Any]], str], tqdm: type[Any], progress: Progress) -> str:
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
                folder = result.get(timeout=REPORT_SECONDS)
            except NotYet:
                report()
                continue
            report()
            return folder
    finally:
        stop.set()
        thread.close()
