"""Soups of the recipe `tiny` by other methods, by the real graph, of the runs that are there."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

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


def test_stage_1_alone_may_end_in_the_mean_of_its_last_checkpoints(
    tiny: World, tmp_path: Path
) -> None:
    recipe = Path(shutil.copytree(RECIPES / "tiny", tmp_path / "recipes" / "tiny_alone"))
    (recipe / "stage2.yaml").unlink()
    corpus = (recipe / "corpus.yaml").read_text()
    (recipe / "corpus.yaml").write_text(corpus.partition("stage2_mix:")[0])
    evals = (recipe / "evals.yaml").read_text()
    (recipe / "evals.yaml").write_text(evals.replace("soup: {}", "soup: {last_checkpoints: 2}"))
    place = {"OLMO_RECIPES": str(recipe.parent)}
    done = tiny.olmo("run", "tiny_alone", "--select", "soup", **place)
    assert done.returncode == 0, done.stdout + done.stderr
    [entry] = json.loads(tiny.olmo("show", "tiny_alone", "soup", "--json", **place).stdout)
    checkpoints = [tiny.path("stage1") / "checkpoints" / f"step{step}" for step in (20, 40)]
    weights: list[dict[str, torch.Tensor]] = []
    for number, checkpoint in enumerate(checkpoints):
        dcp_to_torch_save(checkpoint / "model_and_optim", tmp_path / f"{number}.pt")
        weights.append(torch.load(tmp_path / f"{number}.pt"))
    found = load_file(Path(entry["path"]) / "model" / "model.safetensors")
    assert len(found) > 10
    for name, tensor in found.items():
        first, second = (each[f"model.{name}"].double() for each in weights)
        assert torch.equal(tensor, ((first + second) / 2).float())
