"""The commands `olmo trace official …`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson

app = typer.Typer(
    no_args_is_help=True,
    help="Say what a training of others has read, from its YAML and its published token metadata.",
)
Config = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="The training's YAML, as published.", exists=True, dir_okay=False
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FOLDER",
        help="Of files that are here, below the paths of their URLs; others are read there.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="In what the run differed from its file, as epoch=1."
    ),
]

Indices = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="The run's own train_data/global_indices.npy; else its order is computed.",
    ),
]


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace official step OLMo2-1B-stage1.yaml 1234 --tokens ~/olmo-data --instance 0\n\n"
    "  olmo trace official step OLMo2-1B-stage1.yaml 1234 --json | jq '.instances[].file'"
)
def step(
    config: Config,
    number: Annotated[int, typer.Argument(metavar="STEP", help="From 1, as in checkpoints.")],
    tokens: Tokens = None,
    indices: Indices = None,
    changes: Changes = None,
    instance: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Of the batch, from 0; repeated. Default: all.", min=0),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the documents of a step's batch. Of token files only sizes and rows are read.

    The rows of each file that the instances touch are fetched whole: `--instance` keeps them few.
    """
    from pipelines.cli.trace_official import Where, print_official_step

    where = Where(tokens=tokens, indices=indices, changes=changes or [])
    print_official_step(config, number, where, instance or [], as_json=as_json)


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace official doc OLMo2-1B-stage1.yaml 1234567 --tokens ~/olmo-data "
    "--files '*/documents/wiki/*'"
)
def doc(
    config: Config,
    document: Annotated[str, typer.Argument(metavar="ID", help="As its rows have it.")],
    tokens: Tokens = None,
    indices: Indices = None,
    changes: Changes = None,
    files: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Which of data.paths are searched; repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which steps read a document. The rows of all files searched are read to their end.

    Exit code 1: no rows name it.
    """
    from pipelines.cli.trace_official import Where, print_official_document

    where = Where(tokens=tokens, indices=indices, changes=changes or [])
    code = print_official_document(config, document, where, files or [], as_json=as_json)
    raise typer.Exit(code)


@app.command(epilog="Examples:\n\n  olmo trace official checkpoint OLMo2-1B-stage1.yaml 10000")
def checkpoint(
    config: Config,
    number: Annotated[int, typer.Argument(metavar="STEP", help="The last that counts.")],
    tokens: Tokens = None,
    indices: Indices = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Count what a checkpoint has read, by folder of the token files. Only sizes are looked at."""
    from pipelines.cli.trace_official import Where, print_official_checkpoint

    where = Where(tokens=tokens, indices=indices, changes=changes or [])
    print_official_checkpoint(config, number, where, as_json=as_json)
