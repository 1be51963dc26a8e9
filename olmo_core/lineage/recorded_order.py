"""The order of windows as OLMo's trainer has written it down, read where it lies."""

import numpy as np

from olmo_core.data.files import Files
from olmo_core.errors import InputError

MOST_RANKS = 1 << 14  # of a training


class RecordedOrder:
    """The order of an epoch as OLMo's trainer has written it: `train_data/global_indices.npy`.

    Despite its name a headerless array of uint32; only the positions asked for are read.

    Args:
        place: The file, or its URL.
        count: Windows of an epoch; the file may lack the last few, fewer than there were ranks.
        files: Who reads it.

    Raises:
        InputError: it is not there, or of another number of windows.
    """

    def __init__(self, place: str, count: int, files: Files) -> None:
        self._place, self._count, self._files = place, count, files
        self._kept, rest = divmod(files.size(place), 4)
        if rest or not count - MOST_RANKS < self._kept <= count:
            raise InputError(
                f"{place}: {files.size(place)} bytes; expected 4 for each of {count} windows, or "
                f"of up to {MOST_RANKS} fewer: the order of other data?"
            )

    def windows(self, positions: np.ndarray) -> np.ndarray:
        """Return the windows at positions that follow each other, int64.

        Raises:
            InputError: the file ends before, or names a window that the data has not.
        """
        first, last = int(positions[0]), int(positions[-1])
        if last >= self._kept:
            raise InputError(f"{self._place}: ends at position {self._kept}, asked for {last}")
        found = np.empty(last + 1 - first, dtype="<u4")
        self._files.read_into(self._place, first * 4, found.view(np.uint8).data)
        if int(found.max()) >= self._count:
            raise InputError(
                f"{self._place}: window {found.max()} of {self._count}: the order of other data?"
            )
        return found.astype(np.int64)
