"""The type of the device is told without torch where it must be the CPU, and else by torch."""

import pytest
import torch

from olmo_core.checkpoint.huggingface import device_for_evaluation
from olmo_core.evals import libraries


def test_the_device_is_torchs() -> None:
    assert libraries.device_type() == device_for_evaluation().type


@pytest.mark.parametrize(
    ("build", "driver", "asks"),
    [
        ("2.13.0+cpu", True, False),
        ("2.13.0", False, False),
        ("2.13.0+cu130", False, False),
        ("2.13.0", True, True),
        ("2.13.0+cu130", True, True),
        ("2.13.0+rocm7.1", False, True),
    ],
)
def test_torch_is_asked_where_there_may_be_a_gpu(
    monkeypatch: pytest.MonkeyPatch, build: str, driver: bool, asks: bool
) -> None:
    monkeypatch.setattr(libraries, "version", lambda name: build)
    monkeypatch.setattr(libraries, "_has_cuda_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert libraries.device_type() == ("cuda" if asks else "cpu")
