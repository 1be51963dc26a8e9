"""`olmo sample` and `olmo open`: look at what has been made."""

from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson, recipe_names

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    '  olmo sample demo/soup "def read_lines(path):"\n\n'
    '  olmo sample demo/stage1@step300 "The MIT" --temperature 0.8 -n 3 --seed 7\n\n'
    "  olmo sample ~/models/mine \"Once\" --json | jq '.continuations[].text'",
)
def sample(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="demo/soup, demo/stage1@step300, any with a version as in demo/soup/VERSION; "
            "or the folder of a run, a checkpoint or an export.",
        ),
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue.")],
    count: Annotated[int, typer.Option("-n", help="Continuations.", min=1, max=1000)] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="Of each at most.", min=1)] = 64,
    temperature: Annotated[
        float, typer.Option(help="0: the most likely token each time.", min=0.0)
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(help="Of the most likely tokens, up to this probability.", min=0.0, max=1.0),
    ] = 1.0,
    seed: Annotated[
        int, typer.Option(help="Of the first continuation; the next has one more.", min=0)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Continue a text by a model. The same seed gives the same text on the same machine."""
    from pipelines.cli.sample import print_samples

    print_samples(
        model,
        prompt,
        count=count,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        as_json=as_json,
    )


@app.command(
    "open",
    epilog="Examples:\n\n  olmo open demo stage1\n\n  olmo open demo --print",
)
def open_command(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="Its graph.", autocompletion=recipe_names),
    ] = None,
    asset: Annotated[str | None, typer.Argument(metavar="[ASSET]", help="Its page.")] = None,
    port: Annotated[int, typer.Option(help="Of the UI.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="That the UI listens on.")] = "127.0.0.1",
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the address, and open nothing.")
    ] = False,
) -> None:
    """Open the page of a recipe or an asset in the running Dagster UI, and print its address."""
    from pipelines.cli.open_page import open_page

    open_page(recipe, asset, host, port, browse=not only_print)
