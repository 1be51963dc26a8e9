"""A training that others have run, from its YAML alone: which windows of which files a step read.

OLMo's trainer joins the windows of `data.paths` in the order of the list, each file's tail dropped,
shuffles their numbers with numpy's PCG64 seeded with seed + epoch, and takes global batches one
after the other. So the sizes of the files are all that has to be known of them. Steps count from 1.

Source: allenai/OLMo `olmo/data/memmap_dataset.py`, `olmo/data/iterable_dataset.py`.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from olmo_core.config.duration import Batching, Duration, last_step
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.data.files import Files
from olmo_core.data.format import little_endian
from olmo_core.data.order import Order, make_order
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.recorded_order import RecordedOrder
from olmo_core.lineage.run import Taken
from olmo_core.remote.storage import is_remote

_POSITIONS = 1 << 20  # of an epoch, ordered at once


@dataclass(frozen=True, kw_only=True)
class Place:
    """The tokens [start, stop) of a file of `data.paths`: one window."""

    file: str  # as the YAML lists it
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class FolderCount:
    """What was read of the files of one folder."""

    folder: str
    files: int  # that any window was read of
    tokens: int  # each as often as it was read
    listed_tokens: int  # of one pass over all windows of its files, with those listed twice


class OfficialRun:
    """The order in which a training reads its files.

    Args:
        config: Of its YAML.
        folder: Of files that are here, each below the path of its URL; the others are asked for
            their size where they lie.
        indices: The order of the run's first epoch as OLMo's trainer has recorded it; None: it is
            computed, which takes 4 bytes per window, and minutes for a billion.

    Raises:
        ConfigError: the YAML lists no files.
        InputError: a file is not there, or is no whole number of token ids; or all of them do not
            fill a batch.
    """

    def __init__(
        self, config: TrainConfig, folder: Path | None = None, indices: str | None = None
    ) -> None:
        if not config.data.paths:
            raise ConfigError(
                "data.paths: the file lists no token files, so their order is unknown"
            )
        self.config = config
        self.paths = config.data.paths
        self.length = config.sequence_length
        self.places = {path: _place(path, folder) for path in dict.fromkeys(self.paths)}
        self._indices = indices
        self._files = files = Files(config.core.cache)
        sizes = files.each(files.size, self.places.values())
        self._windows = np.array([self._windows_of(path, sizes) for path in self.paths])
        self._first = np.concatenate([[0], np.cumsum(self._windows)])  # window of each file
        size = config.global_train_batch_size
        self.batching = Batching(instances=int(self._first[-1]), size=size)
        if not self.batching.per_epoch:
            raise InputError(
                f"{self.batching.instances} windows of {self.length} tokens do not fill a global "
                f"batch of {size}"
            )
        duration = Duration.parse(config.max_duration)
        steps = duration.steps(config.tokens_per_step, self.batching.per_epoch)
        assert steps is not None  # the epoch's length is known
        self.last_step = last_step(steps, config.stop_at)
        self._order = functools.lru_cache(maxsize=1)(self._make_order)  # 4 bytes per window

    @property
    def last_known_step(self) -> int:
        """Return the last step whose batch is known: that of the run, if it drops epochs' ends."""
        whole = self.config.data.drop_last
        return self.last_step if whole else min(self.last_step, self.batching.per_epoch)

    def batch(self, step: int) -> tuple[int, np.ndarray]:
        """Return the epoch of a step, and the windows of its global batch in order, int64.

        Raises:
            InputError: the run as its YAML describes it takes no such step.
        """
        self.require_taken(step)
        epoch, start = self.batching.place(step - 1)
        return epoch, self._order(epoch).windows(np.arange(start, start + self.batching.size))

    def place(self, window: int) -> Place:
        """Return where the tokens of a window lie."""
        at = int(np.searchsorted(self._first, window, side="right")) - 1
        start = (window - int(self._first[at])) * self.length
        return Place(file=self.paths[at], start=start, stop=start + self.length)

    def taken(self, file: str, start: int, stop: int) -> list[Taken]:
        """Return the known steps that read any of the tokens [start, stop) of a file, ascending.

        One that is listed twice is read twice per epoch.
        """
        windows: list[int] = []
        for at, path in enumerate(self.paths):
            if path == file:
                last = min(int(self._windows[at]), -(-stop // self.length))
                first = int(self._first[at])
                windows += range(first + start // self.length, first + last)
        return sorted(self._taken(np.array(windows, dtype=np.int64)), key=lambda each: each.step)

    def tokens_in_windows(self, file: str) -> int:
        """Return the tokens of a file that any window holds; those after them are in none."""
        return int(self._windows[self.paths.index(file)]) * self.length

    def read_up_to(self, step: int) -> list[FolderCount]:
        """Return what the steps up to one have read, by the folder of the files, in their order.

        Raises:
            InputError: the run as its YAML describes it takes no such step.
        """
        self.require_taken(step)
        times = np.zeros(len(self.paths), dtype=np.int64)
        done = 0
        while done < step:
            epoch, start = self.batching.place(done)
            steps = min(step - done, self.batching.per_epoch - start // self.batching.size)
            stop = start + steps * self.batching.size
            for first in range(start, stop, _POSITIONS):
                windows = self._order(epoch).windows(
                    np.arange(first, min(stop, first + _POSITIONS))
                )
                at = np.searchsorted(self._first, windows, side="right") - 1
                times += np.bincount(at, minlength=len(times))
            done += steps
        return [*self._by_folder(times)]

    def require_taken(self, step: int) -> None:
        """Refuse a step that the run, as its YAML describes it, does not take.

        Raises:
            InputError: as said.
        """
        if not 1 <= step <= self.last_step:
            raise InputError(
                f"step {step}: expected 1 to {self.last_step:,}, which max_duration "
                f"{self.config.max_duration} ends with"
            )
        if step > self.last_known_step:
            raise InputError(
                f"step {step}: data.drop_last is false, and then OLMo fills the end of an epoch up "
                f"by its number of ranks; only the {self.batching.per_epoch:,} steps of the first "
                "epoch are known"
            )

    def _taken(self, windows: np.ndarray) -> Iterator[Taken]:
        if not len(windows):
            return
        last, _ = self.batching.place(self.last_known_step - 1)
        for epoch in range(last + 1):
            order = self._order(epoch)
            batches = self.batching.per_epoch * self.batching.size  # the rest is never read
            for first in range(0, batches, _POSITIONS):
                # No inverse: of a pretraining corpus it takes gigabytes.
                stop = min(batches, first + _POSITIONS)
                found = order.windows(np.arange(first, stop))
                for position in np.flatnonzero(np.isin(found, windows)).tolist():
                    before = self.batching.step_of(epoch, first + position)
                    if before is not None and before < self.last_known_step:
                        yield Taken(
                            window=int(found[position]),
                            step=before + 1,
                            epoch=epoch,
                            instance=(first + position) % self.batching.size,
                        )

    def _by_folder(self, times: np.ndarray) -> Iterator[FolderCount]:
        folders = [path.rpartition("/")[0] for path in self.paths]
        for folder in dict.fromkeys(folders):
            here = np.array([each == folder for each in folders])
            read = {path for path, n in zip(self.paths, times * here, strict=True) if n}
            yield FolderCount(
                folder=folder,
                files=len(read),
                tokens=int(times[here].sum()) * self.length,
                listed_tokens=int(self._windows[here].sum()) * self.length,
            )

    def _windows_of(self, path: str, sizes: dict[str, int]) -> int:
        place, item = self.places[path], little_endian(self.config.data.memmap_dtype).itemsize
        tokens, rest = divmod(sizes[place], item)
        if rest:
            raise InputError(
                f"{place}: {sizes[place]} bytes is no multiple of {item} "
                f"(data.memmap_dtype {self.config.data.memmap_dtype})"
            )
        return tokens // self.length

    def _make_order(self, epoch: int) -> Order | RecordedOrder:
        config = self.config
        if self._indices is not None and epoch == 0:
            return RecordedOrder(self._indices, self.batching.instances, self._files)
        seed = config.seed if config.data.seed is None else config.data.seed
        number = (config.epoch or 0) + epoch
        return make_order(config.core.order, count=self.batching.instances, seed=seed, epoch=number)


def open_official(
    path: Path,
    folder: Path | None = None,
    changes: Sequence[str] = (),
    *,
    indices: str | None = None,
) -> OfficialRun:
    """Read a training's YAML, and look how large its files are.

    Args:
        path: The YAML, as its makers have published it.
        folder: Of files that are here, each below the path of its URL, as `wget -r -nH` and
            `aws s3 sync` leave them.
        changes: Dotted keys in which the run differed from its file, as in `epoch=1`.
        indices: The run's own `global_indices.npy`, a file or a URL.

    Raises:
        ConfigError: it is no training file, or lists no files.
        InputError: as `OfficialRun`.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    # Dry: where the run lay, and what it kept there, plays no part.
    config, _ = load_train_config(path, [*changes, "dry_run=true"])
    try:
        return OfficialRun(config, folder, indices)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _place(path: str, folder: Path | None) -> str:
    """Return where a file is read: in the folder, if it is there, else where it is listed."""
    if folder is None:
        return path
    inside = urlsplit(path).path if is_remote(path) else path
    here = folder / inside.lstrip("/")
    return str(here) if here.is_file() else path
