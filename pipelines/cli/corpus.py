"""The commands `olmo corpus …`."""

from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson, RecipeName

app = typer.Typer(no_args_is_help=True, help="Look into a recipe's corpus.")


@app.command(
    epilog="Examples:\n\n"
    "  olmo corpus inspect demo --source docstrings --dropped-by too_few_words\n\n"
    "  olmo corpus inspect demo --grep 'Copyright.*1999' --kept\n\n"
    "  olmo corpus inspect demo --limit 0          what the rules drop, as they stand",
)
def inspect(
    recipe: RecipeName,
    source: Annotated[str | None, typer.Option(help="Of this source only.")] = None,
    dropped_by: Annotated[
        str | None, typer.Option(metavar="RULE", help="That this rule drops, as the first.")
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="That no rule drops.")] = False,
    grep: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Whose text holds this.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="The one of this id.")] = None,
    limit: Annotated[
        int, typer.Option(help="How many to show; 0: none, and count all.", min=0)
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Show documents, and what the recipe's rules make of each, before anything is run."""
    from pipelines.cli.inspect_corpus import Wanted, inspect

    wanted = Wanted(source=source, dropped_by=dropped_by, kept=kept, grep=grep, id=id)
    inspect(recipe, wanted, limit=limit, as_json=as_json)
