"""Links from an asset's page to what decides it: the module of its job, its part of the recipe."""

import warnings
from pathlib import Path
from typing import Any

import dagster as dg

from assets.node import Node
from assets.paths import CHECKOUT
from assets.recipe import Recipe
from olmo_core.config.load import Tree

SWEPT = "checkpoint_"  # a sweep's asset reads the section of the one that it repeats


def code_references(recipe: Recipe, node: Node) -> dict[str, Any]:
    """Return metadata of an asset's definition: its files, the module of its job first."""
    tree, name = _section(recipe, node), node.name.removeprefix(SWEPT)
    file, _, line = tree.place(name).rpartition(":")
    recipe_file, number = (file, int(line)) if line.isdigit() else (tree.file, None)
    module = _module_file(node.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return {
            "dagster/code_references": dg.CodeReferencesMetadataValue(
                code_references=[
                    dg.LocalFileCodeReference(
                        file_path=str(module), label=str(module.relative_to(CHECKOUT))
                    ),
                    dg.LocalFileCodeReference(
                        file_path=recipe_file,
                        line_number=number,
                        label=f"{recipe.name}/{Path(recipe_file).name}",
                    ),
                ]
            )
        }


def _module_file(module: str) -> Path:
    """Return the file of a module, without importing it; of a package, what `python -m` runs."""
    path = CHECKOUT.joinpath(*module.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def _section(recipe: Recipe, node: Node) -> Tree:
    """Return the file of the recipe that says most of an asset."""
    name = node.name.removeprefix(SWEPT)
    for tree in (recipe.corpus, recipe.evals):
        if name in tree:
            return tree
    if node.stage == "train":
        return recipe.stage2 if recipe.stage2 is not None and name != "stage1" else recipe.stage1
    return recipe.corpus if node.stage == "corpus" else recipe.evals
