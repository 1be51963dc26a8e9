"""AI2's in-loop library, of which the wheel of tasks' data is a part, as an oracle."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest


class Metric:
    """What the library uses of torchmetrics, which is not installed here: lists of one process."""

    def __init__(self, sync_on_compute: bool = True) -> None:
        pass

    def add_state(self, name: str, default: list[Any], dist_reduce_fx: Any) -> None:
        setattr(self, name, [*default])


@pytest.fixture(scope="module")
def library() -> Iterator[Any]:
    """Its modules `tasks` and `metrics`, both as attributes of the package."""
    stub = ModuleType("torchmetrics")
    setattr(stub, "Metric", Metric)  # noqa: B010 (for the type checker)
    sys.modules["torchmetrics"] = stub
    for name in ("tasks", "metrics"):
        importlib.import_module(f"olmo_eval.{name}")
    yield sys.modules["olmo_eval"]
    for name in [name for name in sys.modules if name.startswith(("olmo_eval", "torchmetrics"))]:
        del sys.modules[name]


class WholeTexts:
    """Stands in for a tokenizer: a text is one token, so that texts can be compared."""

    bos_token_id = None
    pad_token_id = ""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[str]:
        return [text]
