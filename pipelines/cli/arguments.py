"""Arguments and options that several commands of `olmo` have."""

from typing import Annotated

import typer


def recipe_names() -> list[str]:
    """Return the names that a shell completes a recipe's beginning to."""
    from assets.recipe import find_recipes

    return [*find_recipes()]


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="The recipe's name, as in demo.", autocompletion=recipe_names
    ),
]
AssetName = Annotated[str, typer.Argument(metavar="ASSET", help="One of its assets, as in stage1.")]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="ASSETS",
        help="Only these assets and what they are made from; comma-separated or repeated.",
    ),
]
Partition = Annotated[
    str | None,
    typer.Option("--partition", metavar="KEY", help="Of a sweep's asset: stage1@step100."),
]
Every = Annotated[
    int,
    typer.Option(metavar="STEPS", help="Only checkpoints at multiples of so many steps.", min=1),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUNS", help="Only checkpoints of these trainings: stage1,stage2_ingredient1."
    ),
]
OfRecipe = Annotated[str | None, typer.Argument(metavar="RECIPE", help="Jobs of this recipe only.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")]


def names_of(given: list[str] | None) -> list[str]:
    """Return the names of an option that is repeated, or holds several with commas between."""
    return [name for part in given or [] for name in part.split(",") if name]
