"""Tests compute on the CPU of a machine that has a GPU, unless tests of the GPU are chosen."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conftest import pytest_collection_finish


@pytest.mark.parametrize(("markers", "visible"), [([None, None], ""), ([None, "gpu"], "0")])
def test_a_gpu_is_seen_by_its_tests_alone(
    markers: list[str | None], visible: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    items = [SimpleNamespace(get_closest_marker=lambda name, own=m: own == name) for m in markers]
    pytest_collection_finish(cast(Any, SimpleNamespace(items=items)))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
