"""Equal bits are asked of torch unless the configuration gives them up."""

from collections.abc import Iterator

import pytest
import torch

from olmo_core.config.train import CoreConfig
from olmo_core.train.run import prepare_arithmetic


@pytest.fixture
def arithmetic() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_are_the_configuration_s(deterministic: bool) -> None:
    assert prepare_arithmetic(CoreConfig(threads=1, deterministic=deterministic)) == 1
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.get_num_threads() == 1
