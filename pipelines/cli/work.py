"""`olmo launch` and the commands on jobs: what is queued or at work, followed and ended."""

from typing import Annotated

import typer

from pipelines.cli.arguments import (
    AsJson,
    AssetName,
    Every,
    Models,
    OfRecipe,
    Partition,
    RecipeName,
    names_of,
    recipe_names,
)

app = typer.Typer()


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
    "  olmo sweep demo mine --every 1000\n\n"
    "  olmo sweep demo --models stage1 --select downstream"
)
def sweep(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE",
            help="One recipe or several, as in demo.",
            autocompletion=recipe_names,
        ),
    ],
    every: Every = 1,
    models: Models = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="EVALUATIONS", help="Only these: downstream, perplexity."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; does nothing.")
    ] = False,
) -> None:
    """Queue every evaluation that the checkpoints lack; without a queue make them one by one."""
    from pipelines.cli.launch import sweep_recipe

    wanted = {"runs": names_of(models), "evaluations": names_of(select)}
    codes = [sweep_recipe(name, every=every, **wanted, dry_run=dry_run) for name in recipes]
    raise typer.Exit(max(codes))


@app.command(epilog="Examples:\n\n  olmo orphans\n\n  olmo orphans demo --json")
def orphans(recipe: OfRecipe = None, as_json: AsJson = False) -> None:
    """List jobs that no Dagster run follows, and runs whose process is gone; changes nothing."""
    from pipelines.cli.orphans import print_orphans

    print_orphans(recipe, as_json=as_json)
