"""Copies of a run's checkpoints elsewhere (`remote_save_folder`), made while training goes on.

`<remote_save_folder>/checkpoints/step{N}/` holds the files of the run folder's checkpoint. Each is
read back after it was sent, and `manifest.json` comes last: a copy that has one is whole. No copy
is ever deleted. `config.yaml` beside them says which run they are of.
"""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from olmo_core.checkpoint import layout
from olmo_core.checkpoint.layout import Checkpoint, CorruptCheckpoint
from olmo_core.errors import InputError
from olmo_core.files import sha256_file, write_atomic
from olmo_core.remote.cache import download
from olmo_core.remote.storage import list_folder, read_file, remove, upload
from olmo_core.run.folder import RunFolder, locked

log = logging.getLogger("olmo")

_LOOK_SECONDS = 0.5  # at whether all is sent


class Mirror:
    """Send the checkpoints of a run, one after the other; the first rank has one.

    A checkpoint that could not be sent is tried again with the next one, and at the end.

    Args:
        run: The run folder.
        url: `remote_save_folder`.
        retain: Called when a copy is verified, with the newest step and the steps whose copies are
            not: these have to stay.
    """

    def __init__(self, run: Path, url: str, retain: Callable[[int, Collection[int]], None]) -> None:
        self._run, self._url, self._retain = RunFolder(run), url.rstrip("/"), retain
        self._newest = 0
        self._unsent: dict[int, str] = {}  # step -> why it could not be sent, once that was tried
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # a daemon: where nobody waits for it, as after an error, it must not keep the process
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)

    def start(self) -> None:
        """Send the run's `config.yaml`, which shows that files can be sent, and begin.

        Raises:
            InputError: it cannot be sent.
        """
        try:
            config = self._run.config
            upload(config, f"{self._url}/{config.name}", sha256_file(config))
        except InputError as error:
            raise InputError(
                f"remote_save_folder: {error}; remote_save_folder: null keeps checkpoints on this "
                "machine alone"
            ) from error
        self._thread.start()

    def send(self, step: int) -> None:
        """Have the checkpoint of `step` sent, which is whole; returns at once."""
        self._newest = max(self._newest, step)
        self._unsent.setdefault(step, "")
        self._wake.put(True)

    def finish(self, waiting: Callable[[str], None]) -> None:
        """Wait until everything is sent; call `waiting` now and then with what is not.

        Raises:
            InputError: something could not be sent; it is still on this machine.
        """
        self._wake.put(False)
        while self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
            waiting(f"sending {self._names()} to {self._url}")
        if self._unsent:
            raise InputError(
                f"remote_save_folder {self._url}: not sent: {self._names()}, still "
                f"in {self._run.path / layout.CHECKPOINTS}; start again to send it: "
                + "; ".join(self._unsent.values())
            )

    def _work(self) -> None:
        more = True
        while more:
            more = self._wake.get()
            for step in [*self._unsent]:
                try:
                    self._send(step)
                    del self._unsent[step]
                    self._retain(self._newest, self._unsent)
                except Exception as error:  # every back end of fsspec has its own
                    self._unsent[step] = str(error)
                    log.error("remote_save_folder: step%d is not sent yet: %s", step, error)

    def _send(self, step: int) -> None:
        """Send one checkpoint; one that is there already, or damaged here, is passed over."""
        start = time.perf_counter()
        checkpoint = Checkpoint(self._run.path / layout.CHECKPOINTS / f"step{step}")
        target = f"{self._url}/{layout.CHECKPOINTS}/step{step}"
        manifest = checkpoint.path / layout.MANIFEST
        if read_file(f"{target}/{layout.MANIFEST}") == manifest.read_bytes():
            return
        try:
            checkpoint.verify()
        except CorruptCheckpoint as error:
            log.error("remote_save_folder: step%d is damaged and not sent: %s", step, error)
            return
        remove(f"{target}/{layout.MANIFEST}")  # of a copy that the run has gone back behind
        for name, entry in checkpoint.read_manifest().items():
            upload(checkpoint.path / name, f"{target}/{name}", entry["sha256"])
        upload(manifest, f"{target}/{layout.MANIFEST}", sha256_file(manifest))
        log.info("sent step%d to %s in %.2f s", step, target, time.perf_counter() - start)

    def _names(self) -> str:
        return ", ".join(f"step{step}" for step in sorted([*self._unsent]))


def bring_back(run: Path, url: str) -> None:
    """Fetch the newest whole copy into the run folder, unless that holds as late a checkpoint.

    Every rank calls it: one fetches, the others wait.

    Raises:
        InputError: it cannot be fetched, or is damaged.
    """
    url = url.rstrip("/")
    with locked(run / layout.CHECKPOINTS / ".fetch.lock"):
        local = layout.list_checkpoints(run)
        for step in reversed(remote_steps(url)):
            if local and local[-1].step >= step:
                return
            source = f"{url}/{layout.CHECKPOINTS}/step{step}"
            try:
                return _fetch(source, run, step)
            except CorruptCheckpoint as error:
                log.warning("%s: passed over, as it was not sent to its end: %s", source, error)


def remote_steps(url: str) -> list[int]:
    """Return the steps of which there are copies, whole or not, in order."""
    names = layout.step_names(list_folder(f"{url.rstrip('/')}/{layout.CHECKPOINTS}"))
    return [Checkpoint(Path(name)).step for name in names]


def _fetch(source: str, run: Path, step: int) -> None:
    """Fetch a copy by its manifest.

    Raises:
        CorruptCheckpoint: it has none, or one that was cut short.
        InputError: a file is not what the manifest says, or lies elsewhere.
    """
    target = run / layout.CHECKPOINTS / f"step{step}"
    temporary = layout.temporary(target)
    shutil.rmtree(temporary, ignore_errors=True)
    manifest = read_file(f"{source}/{layout.MANIFEST}")
    if manifest is None:
        raise CorruptCheckpoint(f"no {layout.MANIFEST}")
    write_atomic(temporary / layout.MANIFEST, manifest)
    for name, entry in Checkpoint(temporary).read_manifest().items():
        path = temporary / name
        path.parent.mkdir(exist_ok=True)
        download(f"{source}/{name}", path, entry["sha256"])
    layout.publish(temporary, target)
    log.info("fetched %s, later than what %s held", source, run)
