"""`olmo replay`, `accept`, `diff` and `takedown`: what results are, and what follows from that."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson, RecipeName

app = typer.Typer()
Stage = Annotated[
    str, typer.Option(metavar="ASSET", help="The training: stage1, stage2_ingredient1, …")
]


@app.command(
    epilog="Examples:\n\n"
    "  olmo replay demo 301\n\n"
    "  olmo replay demo 120 --steps 50 --stage stage2_ingredient1\n\n"
    "  olmo replay demo 301 --json | jq .bitwise",
)
def replay(
    recipe: RecipeName,
    step: Annotated[int, typer.Argument(metavar="STEP", help="The first to compare.", min=1)],
    steps: Annotated[int, typer.Option(metavar="N", help="How many steps from it on.", min=1)] = 20,
    stage: Stage = "stage1",
    as_json: AsJson = False,
) -> None:
    """Make a training's steps again from the checkpoint before, and compare losses, norms, weights.

    On the same ranks, threads, machine and torch every bit must be equal; elsewhere figures may
    differ by rounding. Exit code 1: they differ by more. The run itself is only read.
    """
    from pipelines.cli.replay import replay_steps

    raise typer.Exit(replay_steps(recipe, stage, step, steps, as_json=as_json))


@app.command(
    epilog="Examples:\n\n"
    '  olmo accept demo --because "renamed, same arithmetic"\n\n'
    '  olmo accept demo stage1 --because "the new rate was meant" '
    "--config optimizer.learning_rate\n\n"
    "  olmo accept demo stage1 --replay\n\n"
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
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Trainings alone, and only if a replay of their steps is equal bit by bit.",
        ),
    ] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take back what was accepted; jobs go on.")
    ] = False,
) -> None:
    """Accept what makes a result stale as equivalent: it counts, with all that is made from it."""
    from pipelines.cli.accept import accept_differences, revoke_acceptances
    from pipelines.cli.replay import accept_replayed

    if revoke:
        revoke_acceptances(recipe, assets or [])
    elif replay:
        accept_replayed(recipe, assets or [], because=because or "", config=config or [])
    else:
        accept_differences(recipe, assets or [], because=because or "", config=config or [])


@app.command(
    epilog="Examples:\n\n"
    "  olmo diff demo demo_lr                        two recipes, asset by asset\n\n"
    "  olmo diff demo/stage1 demo_lr/stage1 --out losses.svg\n\n"
    "  olmo diff demo/stage1/da57c51991a7 demo/stage1    an earlier version and the present one\n\n"
    "  olmo diff demo/stage1@step300 demo_lr/stage1@step300 --json | jq '.[].causes[].line'\n\n"
    "  olmo diff ~/models/mine ~/models/theirs       two exports",
)
def diff(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...",
            help="Recipes, assets (demo/stage1, demo/stage1/VERSION), checkpoints "
            "(demo/stage1@step300), or folders of runs and exports.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The losses as a picture, .png or .svg, in this file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say in what each differs from the first: the cause, data, place, losses, weights, scores."""
    from pipelines.cli.diff import print_differences

    print_differences(names, out, as_json=as_json)


@app.command(
    epilog="Examples:\n\n"
    "  olmo takedown demo --docs request.txt            what holds or saw them, the cost\n\n"
    "  olmo takedown demo --docs request.txt --write    they leave with the next olmo run\n\n"
    "  olmo takedown demo --verify                      no batch of any step holds them\n\n"
    "  olmo takedown demo --docs request.txt --json | jq '.affected[].place'",
)
def takedown(
    recipe: RecipeName,
    docs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An id, a URL or the SHA-1 of a text per line; - reads standard input.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the lists that exclude them, and their keys.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Prove that no batch of the recipe's runs holds them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take documents and their near copies out of a recipe: what holds or saw them, what it costs.

    Deletes nothing. Exit code of --verify 1: a run has read some, or is not made.
    """
    from pipelines.cli.takedown import take_down

    raise typer.Exit(take_down(recipe, docs, write=write, proves=verify, as_json=as_json))
