"""`olmo gc` on the finished recipe: what it is made of stays; of two versions the newer."""

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import World


@pytest.mark.slow
def test_all_of_a_finished_recipe_stays_and_of_two_cards_the_newer(
    tiny: World, tmp_path: Path
) -> None:
    world = World(root=Path(shutil.copytree(tiny.root, tmp_path / "root", symlinks=True)))

    def gc(*more: str) -> dict[str, str]:
        done = world.olmo("gc", "--older-than", "0s", "--json", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return {row["name"]: row["why"] for row in json.loads(done.stdout) if not row["stays"]}

    assert gc() == {}
    card = world.path("model_card")
    done = world.olmo("run", "tiny", "--select", "model_card", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    name = str(card.relative_to(world.root))
    assert gc("--delete") == {name: f"superseded by {card.name}.2"}
    assert not card.exists()
    planned = json.loads(world.olmo("plan", "tiny", "--json").stdout)
    states = {row["state"] for row in planned if row["partition"] is None}
    assert states == {"up to date"}
