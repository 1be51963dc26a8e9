"""A greedy soup of the recipe `tiny`, made by the real graph of the ingredients that are there."""

import json
import os
from pathlib import Path
from typing import Any

from tests.integration.conftest import RECIPES, World


def test_a_greedy_soup_is_at_least_as_good_as_its_best_ingredient_and_shows_the_line(
    tiny: World, tmp_path: Path
) -> None:
    recipes = f"{tmp_path}{os.pathsep}{RECIPES}"  # the variant is saved in the first

    def olmo(*arguments: str) -> str:
        done = tiny.olmo(*arguments, OLMO_RECIPES=recipes)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def metadata(asset: str) -> dict[str, Any]:
        [entry] = json.loads(olmo("show", "tiny_greedy", asset, "--json"))
        return entry["metadata"]

    settings = ("--set", "evals.soup.method=greedy", "--set", "evals.interpolation.points=3")
    selected = ("--select", "perplexity,interpolation")
    olmo("run", "tiny", *settings, "--as", "tiny_greedy", *selected)
    trials = metadata("soup")["tables"]["trials"]
    assert sorted(row["ingredient"] for row in trials) == [
        "stage2_ingredient1",
        "stage2_ingredient2",
    ]
    perplexity = metadata("perplexity")
    found = {row["check"]: row for row in perplexity["checks"]}["soup_is_as_good_as_its_best"]
    assert found["passed"], found
    loss = metadata("soup")["held_out_loss"]
    assert f"soup {loss:.4f} nats per token" in found["found"]
    assert "soup_is_as_good_as_its_best" in olmo("show", "tiny_greedy", "perplexity")
    curve = metadata("interpolation")["tables"]["curve"]
    alone = {row["ingredient"]: row["loss_alone"] for row in trials}
    assert [curve[0]["loss"], curve[-1]["loss"]] == [
        alone["stage2_ingredient1"],
        alone["stage2_ingredient2"],
    ]
