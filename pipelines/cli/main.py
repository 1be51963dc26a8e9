"""The `olmo` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

import sys
from typing import Annotated

import typer

from pipelines.cli import job_commands

app = typer.Typer(
    name="olmo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="The whole life of an OLMo model as one graph: raw text to evaluated, souped model.",
    epilog="Results lie under OLMO_ROOT (default: runs/ in the checkout). "
    "Recipes are found on OLMO_RECIPES, then in OLMO_ROOT's recipes/, then in pipelines/recipes.",
)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe's name, as in demo.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")]

app.add_typer(job_commands.app)


@app.command(
    epilog="Examples:\n\n"
    "  olmo run demo\n\n"
    "  olmo run demo --select stage1            up to stage 1\n\n"
    "  olmo run demo --select downstream --force  evaluate again, as a new version\n\n"
    "  olmo run demo --set stage1.optimizer.learning_rate=2e-3 --as demo_lr2\n\n"
    "  olmo run demo --set stage1.optimizer.learning_rate=1e-3,2e-3 --as demo_lr   two variants",
)
def run(
    recipe: RecipeName,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select",
            metavar="ASSETS",
            help="Only these assets and what they are made from; comma-separated or repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make the selected assets again, as new versions.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FILE.KEY=VALUE",
            help="Run a variant of the recipe with this value; repeated for more keys. "
            "VALUE,VALUE makes one variant per value.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Recipe that the variant is saved as: in OLMO_RECIPES' first folder, else in "
            "recipes/ under OLMO_ROOT. Several are NAME_1, NAME_2, …",
        ),
    ] = None,
) -> None:
    """Make what is missing or stale in a recipe's graph, and nothing else."""
    from pipelines.cli.run import run_recipe
    from pipelines.cli.variants import run_variants

    if settings or name is not None:
        raise typer.Exit(run_variants(recipe, settings or [], name, _names(select), force=force))
    raise typer.Exit(run_recipe(recipe, _names(select), force=force))


@app.command(epilog="Example:\n\n  olmo plan demo")
def plan(
    recipe: RecipeName,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="ASSETS", help="As for `olmo run`.")
    ] = None,
) -> None:
    """Say what `olmo run` would make, and why; starts nothing. Exit code 1: a failed check."""
    from pipelines.cli.show import print_plan

    raise typer.Exit(print_plan(recipe, _names(select)))


@app.command(
    epilog="Examples:\n\n"
    '  olmo accept demo --because "renamed, same arithmetic"\n\n'
    '  olmo accept demo stage1 --because "the new rate was meant" '
    "--config optimizer.learning_rate\n\n"
    "  olmo accept demo stage1 --revoke",
)
def accept(
    recipe: RecipeName,
    assets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ASSET]...",
            help="Default: all that are stale by code or packages alone.",
            show_default=False,
        ),
    ] = None,
    because: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why the results are equivalent.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Accept another value of this key; may be repeated."),
    ] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take back what was accepted; jobs go on.")
    ] = False,
) -> None:
    """Accept what makes a result stale as equivalent: it counts, with all that is made from it."""
    from pipelines.cli.accept import accept_differences, revoke_acceptances

    if revoke:
        revoke_acceptances(recipe, assets or [])
    else:
        accept_differences(recipe, assets or [], because=because or "", config=config or [])


@app.command(
    epilog="Examples:\n\n  olmo show demo\n\n  olmo show demo stage1\n\n"
    "  olmo show demo --json | jq '.[].path'",
)
def show(
    recipe: RecipeName,
    asset: Annotated[str | None, typer.Argument(metavar="ASSET", help="One asset only.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what has been made: where it lies, its fingerprint, and what it reported."""
    from pipelines.cli.show import print_assets

    print_assets(recipe, asset, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  olmo leaderboard demo\n\n  olmo leaderboard demo --json",
)
def leaderboard(recipe: RecipeName, as_json: AsJson = False) -> None:
    """Show every model's scores and perplexities."""
    from pipelines.cli.show import print_leaderboard

    print_leaderboard(recipe, as_json=as_json)


@app.command(epilog="Examples:\n\n  olmo ui\n\n  olmo ui --port 3001")
def ui(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback is open to others.")
    ] = "127.0.0.1",
) -> None:
    """Open the Dagster UI over the same instance, with its daemon."""
    from pipelines.cli.ui import serve

    serve(host, port)


def _names(select: list[str] | None) -> list[str]:
    return [name for part in select or [] for name in part.split(",") if name]


def main() -> None:
    """Run the command; a user's mistake is a message and exit code 2, never a traceback."""
    from assets.launcher import EngineError
    from olmo_core.errors import ConfigError, StorageError

    try:
        app()
    except ConfigError as error:
        print(f"olmo: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (EngineError, StorageError) as error:
        print(f"olmo: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
