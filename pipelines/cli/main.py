"""The `olmo` command. Heavy imports wait inside the commands, so that `--help` answers at once."""

import sys
from typing import Annotated

import typer

from pipelines.cli import alerts, corpus, lineage, release, scores, trace
from pipelines.cli.arguments import AsJson, AssetName, OfRecipe, Partition, RecipeName, Select

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
app.add_typer(scores.app)
app.add_typer(lineage.app)
app.add_typer(alerts.app, name="alerts")
app.add_typer(corpus.app, name="corpus")
app.add_typer(release.app, name="release")
app.add_typer(trace.app, name="trace")


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
        raise typer.Exit(run_variants(recipe, settings or [], name, _names(select), force=force))
    raise typer.Exit(run_recipe(recipe, _names(select), force=force))


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


@app.command(
    epilog="Examples:\n\n  olmo plan demo\n\n  olmo plan demo --select soup\n\n"
    "  olmo plan demo --json | jq '.[] | select(.state == \"stale\") | .asset, .why'"
)
def plan(recipe: RecipeName, select: Select = None, as_json: AsJson = False) -> None:
    """Say what `olmo run` would make, and why; starts nothing. Exit code 1: a failed check."""
    from pipelines.cli.plan import print_plan

    raise typer.Exit(print_plan(recipe, _names(select), as_json=as_json))


@app.command(
    epilog="Examples:\n\n"
    "  olmo cost demo\n\n"
    "  olmo cost olmo2_7b --select soup --device H100 --devices 256\n\n"
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
    as_json: AsJson = False,
) -> None:
    """Say what `olmo run` would take, and how that is known; starts nothing.

    Tokens, FLOPs, time, device-hours, money, energy, CO2, disk and memory of what is missing or
    stale. Exit code 1: more than the recipe's budget.
    """
    from pipelines.cli.cost import print_cost

    code = print_cost(
        recipe, _names(select), force=force, device=device, devices=devices, as_json=as_json
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


@app.command(
    epilog="Examples:\n\n"
    "  olmo launch demo stage1\n\n"
    "  olmo launch olmo2_7b stage1 --dry-run > stage1.sbatch\n\n"
    "  olmo launch demo checkpoint_downstream --partition stage1@step100",
)
def launch(
    recipe: RecipeName,
    asset: AssetName,
    partition: Partition = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be submitted, to the letter; starts nothing."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="A new version although there is a finished one.")
    ] = False,
) -> None:
    """Submit one asset's job and return; the job needs nobody to wait for it."""
    from pipelines.cli.launch import launch_asset

    raise typer.Exit(launch_asset(recipe, asset, partition, dry_run=dry_run, force=force))


@app.command(epilog="Examples:\n\n  olmo jobs\n\n  olmo jobs demo --json | jq '.[].description'")
def jobs(recipe: OfRecipe = None, as_json: AsJson = False) -> None:
    """Show every job that is queued or at work: why it waits, how far it is, how fast."""
    from pipelines.cli.jobs import print_jobs

    print_jobs(recipe, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  olmo logs demo stage1 --follow\n\n  olmo logs demo stage1 --rank 3",
)
def logs(
    recipe: RecipeName,
    asset: AssetName,
    partition: Partition = None,
    rank: Annotated[
        int | None, typer.Option(help="A rank's own log instead of the job's.", min=0)
    ] = None,
    lines: Annotated[int, typer.Option(help="How many lines of the end.", min=0)] = 40,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job ends; Ctrl-C ends only this.")
    ] = False,
) -> None:
    """Print the end of the log of an asset's latest job."""
    from pipelines.cli.attempts import print_log

    print_log(recipe, asset, partition, rank=rank, lines=lines, follow=follow)


@app.command(
    epilog="Examples:\n\n  olmo attempts demo stage1\n\n  olmo attempts demo stage1 --json"
)
def attempts(
    recipe: RecipeName, asset: AssetName, partition: Partition = None, as_json: AsJson = False
) -> None:
    """Say what became of an asset's latest job: each attempt, how it ended and what came next."""
    from pipelines.cli.attempts import print_attempts

    print_attempts(recipe, asset, partition, as_json=as_json)


@app.command(epilog="Example:\n\n  olmo cancel demo stage1")
def cancel(recipe: RecipeName, asset: AssetName, partition: Partition = None) -> None:
    """End an asset's job, on whichever engine; what is whole is kept."""
    from pipelines.cli.jobs import cancel

    cancel(recipe, asset, partition)


@app.command(
    epilog="Examples:\n\n  olmo sweep demo --dry-run\n\n  olmo sweep demo\n\n"
    "  olmo sweep demo --every 1000"
)
def sweep(
    recipe: RecipeName,
    every: Annotated[
        int,
        typer.Option(
            metavar="STEPS", help="Only checkpoints at multiples of so many steps.", min=1
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; does nothing.")
    ] = False,
) -> None:
    """Queue every evaluation that the checkpoints lack; without a queue make them one by one."""
    from pipelines.cli.launch import sweep_recipe

    raise typer.Exit(sweep_recipe(recipe, every=every, dry_run=dry_run))


@app.command(epilog="Examples:\n\n  olmo orphans\n\n  olmo orphans demo --json")
def orphans(recipe: OfRecipe = None, as_json: AsJson = False) -> None:
    """List jobs that no Dagster run follows, and runs whose process is gone; changes nothing."""
    from pipelines.cli.orphans import print_orphans

    print_orphans(recipe, as_json=as_json)


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
    from assets.launcher import EngineError, Refused
    from olmo_core.errors import ConfigError, InputError, StorageError

    try:
        app()
    except (ConfigError, EngineError, InputError, Refused, StorageError) as error:
        print(f"olmo: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None


if __name__ == "__main__":
    main()
