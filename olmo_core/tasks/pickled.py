"""Calls and their outcomes as bytes in a run folder; read back, they name nothing but our own code.

A run folder is ours alone, yet a file in it never decides what is run: names are looked up in
`olmo_core` and in the job's own module, and among the few others that are listed here.
"""

import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

WHOLE = b"\nwhole\n"  # the last bytes of an outcome, written once all others are on the disk

_PLAIN: dict[str, frozenset[str]] = {
    "functools": frozenset({"partial"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePosixPath"}),
    "pathlib._local": frozenset({"PosixPath", "PurePosixPath"}),  # as Python 3.13 calls it
    "collections": frozenset({"OrderedDict", "defaultdict", "Counter"}),
    "builtins": frozenset({"set", "frozenset", "bytearray", "complex", "dict", "list", "int"}),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a call ended, and who did it."""

    doer: str  # leader, worker 3
    result: Any = None
    error: BaseException | None = None

    def value(self) -> Any:
        """What the call returned.

        Raises:
            BaseException: what the call raised, with the lines where it did.
        """
        if self.error is not None:
            raise self.error
        return self.result


class _Ours(pickle.Unpickler):
    """Our own functions and classes, exceptions of Python's, and what `_PLAIN` lists."""

    def __init__(self, file: IO[bytes], main: str) -> None:
        super().__init__(file)
        self._main = main

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        # The job was started by `python -m`: it calls its own module by another name.
        module = self._main if module_name == "__main__" else module_name
        if module == self._main or module.partition(".")[0] == "olmo_core":
            found = super().find_class(module, global_name)
            # Not what a module of ours has merely imported.
            if getattr(found, "__module__", None) in (module, "__main__", "__mp_main__"):
                return found
        elif global_name in _PLAIN.get(module, ()):
            return super().find_class(module, global_name)
        elif module == "builtins":
            found = super().find_class(module, global_name)
            if isinstance(found, type) and issubclass(found, Exception):
                return found
        raise pickle.UnpicklingError(f"an object of {module_name}.{global_name} is not read")


def main_module() -> str:
    """The name of the module that this process runs, as another can import it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "__main__"


def packed(value: object) -> bytes:
    """A call, or an outcome, as bytes."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def unpacked(content: bytes, main: str) -> Any:
    """What `packed` was given.

    Args:
        content: The bytes.
        main: The module that `__main__` stands for.

    Raises:
        pickle.UnpicklingError: they name something that is not read.
    """
    return _Ours(io.BytesIO(content), main).load()


def outcome_of(call: Callable[[], Any], doer: str, main: str) -> Outcome:
    """Do a call; what it raises is an outcome too."""
    try:
        return Outcome(doer=doer, result=call())
    except Exception as error:
        lines = traceback.format_exc()
        error.add_note(f"{doer}:\n{lines}")
        try:
            unpacked(packed(error), main)
        except Exception:  # of a class that is not read, or that its own arguments do not make
            return Outcome(doer=doer, error=RuntimeError(lines))
        return Outcome(doer=doer, error=error)


def write_outcome(descriptor: int, outcome: Outcome) -> None:
    """Write an outcome into an open file, and its last bytes once the others are on the disk.

    Where a power cut takes the last bytes alone, the call is done again.
    """
    if os.fstat(descriptor).st_size:  # of one that died in the middle
        os.ftruncate(descriptor, 0)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.seek(0)
        file.write(packed(outcome))
        file.flush()
        os.fsync(descriptor)
        file.write(WHOLE)


def is_whole(descriptor: int) -> bool:
    """Whether an open file holds an outcome to its last byte."""
    size = os.fstat(descriptor).st_size
    return size > len(WHOLE) and os.pread(descriptor, len(WHOLE), size - len(WHOLE)) == WHOLE


def read_outcome(file: IO[bytes], main: str) -> Outcome | None:
    """The outcome that an open file holds; None while it does not."""
    if not is_whole(file.fileno()):
        return None
    return unpacked(file.read().removesuffix(WHOLE), main)
