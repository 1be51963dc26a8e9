"""Unpickle what others may have written, without running any of its code."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

# What a torn or made-up pickle may raise.
UNREADABLE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError)
UNREADABLE += (AttributeError, RuntimeError, OverflowError)


class Unpickler(pickle.Unpickler):
    """Read numbers, texts and their collections, and what is `known` by module and name.

    Nothing else is looked up, so no code of a file's choice is run.
    """

    def __init__(self, content: Any, known: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__(io.BytesIO(content))
        self._known = known or {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return what is known by this name."""
        try:
            return self._known[module_name][global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"an object of {module_name}.{global_name} is not read"
            ) from None
