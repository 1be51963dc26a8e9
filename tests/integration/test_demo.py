"""The recipe `demo`, as `make demo` takes it: four minutes on two cores."""

from pathlib import Path

import pytest

from tests.integration.card import every_number_is_found
from tests.integration.conftest import World


@pytest.mark.drill
def test_every_number_of_the_demo_s_card_stands_in_a_run_folder(tmp_path: Path) -> None:
    demo = World(root=tmp_path, recipe="demo")
    done = demo.olmo("run", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    every_number_is_found(demo)
    verified = demo.olmo("release", "verify", "demo")
    assert verified.returncode == 0, verified.stdout + verified.stderr
