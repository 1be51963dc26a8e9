"""The commands `olmo trace …`."""

from typing import Annotated

import typer

from pipelines.cli import official
from pipelines.cli.arguments import AsJson, RecipeName

Limit = Annotated[
    int, typer.Option(metavar="N", help="Documents that are traced; all are counted.", min=1)
]

MOST_PLACES = 100_000  # of a common text, which take a second or two

app = typer.Typer(
    no_args_is_help=True,
    help="Say which documents a step saw, which models saw a document, what a model comes from.",
)

app.add_typer(official.app, name="official")


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace step demo 391\n\n"
    "  olmo trace step demo 12 --stage stage2_ingredient1 --text\n\n"
    "  olmo trace step demo 391 --json | jq '.instances[].documents[].id'",
)
def step(
    recipe: RecipeName,
    number: Annotated[
        int, typer.Argument(metavar="STEP", help="From 1, as in the log and in checkpoints.")
    ],
    stage: Annotated[
        str, typer.Option(metavar="ASSET", help="The training run, as in stage2_ingredient1.")
    ] = "stage1",
    version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Of the run, where several are there.", show_default=False
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="What the model read, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the documents of a step's batch: from where, which tokens and characters of each."""
    from pipelines.cli.trace_step import print_step

    print_step(recipe, number, stage=stage, version=version, text=text, as_json=as_json)


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace doc demo docstrings/numpy._core.shape_base.stack\n\n"
    "  olmo trace doc demo https://example.org/page.html\n\n"
    "  olmo trace doc demo $(sha1sum < text.txt | cut -c-40) --json\n\n"
    '  olmo trace doc demo "some ten words or more, as they stand in the document itself"',
)
def doc(
    recipe: RecipeName,
    document: Annotated[
        str,
        typer.Argument(
            metavar="ID|URL|SHA-1|QUOTE",
            help="The document; SHA-1 is of its text. Else what it holds, word for word.",
        ),
    ],
    limit: Limit = 10,
    places: Annotated[
        int, typer.Option(metavar="N", help="In the index, that are looked at.", min=1)
    ] = MOST_PLACES,
    as_json: AsJson = False,
) -> None:
    """Show what saw a document, and how often: mixes, steps, checkpoints, soups, revisions.

    Or which rule of which asset has left it out. Of a quote, at least 64 bytes, that of each
    document that holds it; olmo trace index RECIPE makes it fast.
    """
    from pipelines.cli.trace_document import print_document

    print_document(recipe, document, limit=limit, places=places, as_json=as_json)


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace text demo output.txt\n\n"
    "  olmo trace text demo output.txt --model stage1@step300\n\n"
    "  cat output.txt | olmo trace text demo - --json | jq '.spans[].text'",
)
def text(
    recipe: RecipeName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model's output, say; - reads it.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="stage1@step300, a run's end as in stage1, or soup; default: soup.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="Documents of a span.", min=1)] = 3,
    places: Annotated[
        int, typer.Option(metavar="N", help="In the index, that are looked at.", min=1)
    ] = MOST_PLACES,
    as_json: AsJson = False,
) -> None:
    """Show the longest parts of a text that a model was trained on, word for word, and the steps.

    Parts of 64 bytes or more; olmo trace index RECIPE comes first.
    """
    from pipelines.cli.trace_text import print_text

    print_text(recipe, file, model, limit=limit, places=places, as_json=as_json)


@app.command(epilog="Examples:\n\n  olmo trace index demo")
def index(recipe: RecipeName) -> None:
    """Build the index that finds quotes in the recipe's tokens; goes on where it was interrupted.

    It takes about as many bytes as the tokens, and lies in cache/ of OLMO_ROOT. Before it come the
    documents index's places in small blocks, for large batches of olmo trace step.
    """
    from pipelines.cli.trace_index import print_index

    print_index(recipe)


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace checkpoint demo stage1@step300\n\n"
    "  olmo trace checkpoint demo soup\n\n"
    "  olmo trace checkpoint demo stage1 stage2_ingredient1    what B saw that A did not",
)
def checkpoint(
    recipe: RecipeName,
    first: Annotated[
        str,
        typer.Argument(metavar="A", help="stage1@step300, a run's end as in stage1, or soup."),
    ],
    second: Annotated[
        str | None, typer.Argument(metavar="[B]", help="Others to compare.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count what weights were trained on by source, parents included; of two, what B adds to A."""
    from pipelines.cli.trace_checkpoint import print_checkpoint

    print_checkpoint(recipe, first, second, as_json=as_json)


@app.command(
    epilog="Examples:\n\n"
    "  olmo trace model demo                       the soup\n\n"
    "  olmo trace model demo stage1@step300\n\n"
    "  olmo trace model demo export/25716d1e5766\n\n"
    "  olmo trace model demo --json > soup.prov.json    W3C PROV",
)
def model(
    recipe: RecipeName,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="soup, stage1, stage1@step300, export, any with a version. "
            "Default: the soup, else the last training.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="PROV-JSON (W3C) alone on standard output.")
    ] = False,
) -> None:
    """Show all that a model comes from: runs, weights, seeds, raw files, code, who accepted what.

    From run folders alone; one that is gone is named, with those that have read it.
    """
    from pipelines.cli.trace_model import print_model

    print_model(recipe, name, as_json=as_json)
