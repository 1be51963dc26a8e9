"""The `olmo` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

import sys
from typing import Annotated

import typer

from pipelines.cli import alerts, corpus, keep, lineage, made, release, scores, trace, work
from pipelines.cli.arguments import AsJson, Every, Models, RecipeName, Select, names_of

app = typer.Typer(
    name="olmo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="The whole life of an OLMo model as one graph: raw text to evaluated, souped model.",
    epilog="Results lie under OLMO_ROOT (default: runs/ in the checkout). "
    "Recipes are found on OLMO_RECIPES, then in OLMO_ROOT's recipes/, then in pipelines/recipes.",
)
app.add_typer(work.app)
app.add_typer(scores.app)
app.add_typer(lineage.app)
app.add_typer(made.app)
app.add_typer(keep.app)
app.add_typer(alerts.app, name="alerts")
app.add_typer(corpus.app, name="corpus")
app.add_typer(release.app, name="release")
app.add_typer(trace.app, name="trace")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"olmo {version('olmo-pipelines')}")
        raise typer.Exit


@app.callback()
def common(
    asked: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command; `help` above is what a person reads."""


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
    select: Select = None,
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
    from pipelines.cli.run import run_recipe, run_variants

    if settings or name is not None:
        raise typer.Exit(run_variants(recipe, settings or [], name, names_of(select), force=force))
    raise typer.Exit(run_recipe(recipe, names_of(select), force=force))


@app.command(
    epilog="Examples:\n\n"
    "  olmo new mine --text ~/texts\n\n"
    "  olmo new mine --text ~/books --text ~/papers --tokens 5e6",
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the recipe is called.")],
    text: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER",
            help="Folder of text, Markdown, JSON lines or Parquet; repeated for more sources.",
        ),
    ],
    tokens: Annotated[
        float | None,
        typer.Option(
            metavar="TOKENS",
            help="That stage 1 trains on; default: two passes over the text, at most 2e6.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a whole recipe for text of your own; `olmo run NAME` then makes the model."""
    from pipelines.cli.new import write_recipe

    write_recipe(name, text, tokens)


@app.command(epilog="Examples:\n\n  olmo recipes\n\n  olmo recipes --json | jq '.[].recipe'")
def recipes(as_json: AsJson = False) -> None:
    """List every recipe: its model, how long it trains, how many of its assets have been made."""
    from pipelines.cli.recipes import print_recipes

    raise typer.Exit(print_recipes(as_json=as_json))


@app.command(
    epilog="Examples:\n\n  olmo plan demo\n\n  olmo plan demo --select soup\n\n"
    "  olmo plan demo --json | jq '.[] | select(.state == \"stale\") | .asset, .why'"
)
def plan(recipe: RecipeName, select: Select = None, as_json: AsJson = False) -> None:
    """Say what `olmo run` would make, and why; starts nothing.

    Exit code 1: a failed check, or something that is not here.
    """
    from pipelines.cli.plan import print_plan

    raise typer.Exit(print_plan(recipe, names_of(select), as_json=as_json))


@app.command(
    epilog="Examples:\n\n"
    "  olmo cost demo\n\n"
    "  olmo cost olmo2_7b --select soup --device H100 --devices 256\n\n"
    "  olmo cost demo --sweep --every 100 --models stage1\n\n"
    "  olmo cost demo --json | jq '.total.device_hours'",
)
def cost(
    recipe: RecipeName,
    select: Select = None,
    force: Annotated[
        bool, typer.Option("--force", help="As if the selected assets were made again.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="GPU",
            help="Trainings and evaluations on this one instead of the site's, as in H100.",
        ),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="So many of them for a training run.", min=1)
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Of `olmo sweep` instead, also of checkpoints to come; --select EVALUATIONS.",
        ),
    ] = False,
    every: Every = 1,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Say what `olmo run` or, with --sweep, `olmo sweep` would take, and how that is known.

    Tokens, FLOPs, time, device-hours, money, energy, CO2, disk and memory of what is missing or
    stale; starts nothing. Exit code 1: more than the recipe's budget.
    """
    if sweep:
        from pipelines.cli.cost_sweep import print_sweep_cost

        if force:
            raise typer.BadParameter("a sweep makes nothing again", param_hint="--force")
        wanted = {"runs": names_of(models), "evaluations": names_of(select)}
        code = print_sweep_cost(
            recipe, every=every, **wanted, device=device, devices=devices, as_json=as_json
        )
        raise typer.Exit(code)
    from pipelines.cli.cost import print_cost

    if every != 1 or models:
        raise typer.BadParameter("of a sweep alone: --sweep", param_hint="--every, --models")
    code = print_cost(
        recipe, names_of(select), force=force, device=device, devices=devices, as_json=as_json
    )
    raise typer.Exit(code)


@app.command(
    epilog="Examples:\n\n  olmo show demo\n\n  olmo show demo stage1\n\n"
    "  olmo show demo checkpoint_downstream\n\n"
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


@app.command(epilog="Examples:\n\n  olmo ui\n\n  olmo ui olmo_7b\n\n  olmo ui --all --port 3001")
def ui(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE]...", help="Recipes to show although nothing is made."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every recipe on the search path.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback is open to others.")
    ] = "127.0.0.1",
    explorer_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the explorer, on 127.0.0.1 alone; default: the next one.",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open the Dagster UI over the same instance, with its daemon, and the explorer beside it.

    Dagster shows the recipes that have results, and your own.
    """
    from pipelines.cli.ui import serve

    serve(host, port, explorer_port, recipes=recipes or (), every=every)


@app.command(epilog="Examples:\n\n  olmo explorer\n\n  olmo explorer --port 3005")
def explorer(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3001,
) -> None:
    """Serve read-only pages alone: experiments, models, steps, documents, plans; on 127.0.0.1."""
    from pipelines.explorer.listening import LOOPBACK, listen
    from pipelines.explorer.serve import serve

    listening = listen(port, "olmo explorer --port")
    print(f"Explorer: http://{LOOPBACK}:{port}; end it with Ctrl-C", flush=True)
    serve(listening)


def main() -> None:
    """Run the command; what goes wrong is a message, never a traceback.

    Exit code 2: what was asked for is not there or cannot be read, so that a command's 1 stands for
    what it has found. 1 too: an engine, a full disk, a job that must not start.
    """
    from assets.launcher import EngineError, Refused
    from assets.reporting.texts import visible
    from olmo_core.errors import ConfigError, InputError, StorageError

    try:
        app()
    except (ConfigError, EngineError, InputError, Refused, StorageError) as error:
        print(f"olmo: {visible(str(error))}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigError | InputError) else 1) from None


if __name__ == "__main__":
    main()
