"""`olmo leaderboard`, `olmo curves` and `olmo compare`: what has been evaluated."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson, RecipeName

app = typer.Typer()
Recipes = Annotated[
    list[str], typer.Argument(metavar="RECIPE", help="One recipe or several, as in demo.")
]


@app.command(
    epilog="Examples:\n\n  olmo leaderboard demo\n\n  olmo leaderboard demo mine --checkpoints\n\n"
    "  olmo leaderboard demo --markdown > scores.md\n\n  olmo leaderboard demo --json",
)
def leaderboard(
    recipes: Recipes,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="The checkpoints too, as far as they are scored.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="One table in Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every model's scores and perplexities, recipes side by side, with published ones."""
    from pipelines.cli.leaderboard import print_leaderboard

    options = {"checkpoints": checkpoints, "as_json": as_json, "markdown": markdown}
    raise typer.Exit(print_leaderboard(recipes, **options))


@app.command(
    epilog="Examples:\n\n  olmo curves demo\n\n  olmo curves demo --task loss\n\n"
    "  olmo curves demo mine --task olmo1_copa --out copa.svg",
)
def curves(
    recipes: Recipes,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="A column of the leaderboard; repeated for more."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture, .png or .svg, in its place.")
    ] = None,
) -> None:
    """Draw scores over tokens, a line per run, with bands of one standard error."""
    from pipelines.cli.curves import draw_curves

    raise typer.Exit(draw_curves(recipes, task or [], out))


@app.command(
    epilog="Examples:\n\n"
    "  olmo compare demo stage1 soup\n\n"
    "  olmo compare demo stage1@step200 stage1@step391\n\n"
    "  olmo compare demo stage1 soup --documents    which answers became wrong, and right\n\n"
    "  olmo compare demo                        each checkpoint and the one before it",
)
def compare(
    recipe: RecipeName,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BEFORE AFTER]",
            help="Two models or checkpoints; default: successive checkpoints of each run.",
            show_default=False,
        ),
    ] = None,
    documents: Annotated[
        bool,
        typer.Option(
            "--documents", help="The documents that one of two models has right, in place of that."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say where scores differ beyond chance and beyond seeds. Exit code 1: something is worse."""
    if documents:
        from pipelines.cli.flips import print_flips

        raise typer.Exit(print_flips(recipe, models or [], as_json=as_json))
    from pipelines.cli.compare import print_comparison

    raise typer.Exit(print_comparison(recipe, models or [], as_json=as_json))
