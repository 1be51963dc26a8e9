"""The commands `olmo release …`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.arguments import RecipeName

app = typer.Typer(no_args_is_help=True, help="Check a release, and publish it.")


@app.command(
    epilog="Examples:\n\n"
    "  olmo release verify demo\n\n"
    "  olmo release verify runs/demo/export/0f3c5d7e9a1b",
)
def verify(
    export: Annotated[
        str, typer.Argument(metavar="RECIPE|FOLDER", help="A recipe, or an export's run folder.")
    ],
) -> None:
    """Check an export: every file's digest, equal logits, and each line of its model card."""
    from pipelines.cli.publish import verify_export

    raise typer.Exit(verify_export(export))


@app.command(
    epilog="Examples:\n\n"
    "  olmo release push mine --dry-run\n\n"
    "  olmo release push mine\n\n"
    "  olmo release push mine --to my-organisation/mine --public",
)
def push(
    recipe: RecipeName,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; asks nobody, sends nothing.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ORGANISATION/NAME",
            help="Repository on the hub; default: the recipe's export.repository.",
            show_default=False,
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Everybody sees the repository, made here or before.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put revisions over other content of their branches.")
    ] = False,
) -> None:
    """Publish on the Hugging Face hub: a branch per revision, `main` last. Run it again to go on.

    The token is taken from HF_TOKEN or from `hf auth login`.
    """
    from pipelines.cli.publish import push_release

    push_release(recipe, to, dry_run=dry_run, private=not public, replace=replace)


@app.command(epilog="Examples:\n\n  olmo release pages demo demo-pages")
def pages(
    recipe: RecipeName,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="In which they are written: a new one.")
    ],
) -> None:
    """Write the explorer's pages of a recipe's models as files that stay with the release.

    Each loads nothing. Texts of documents are in none, but of sources that release.yaml of the
    recipe names as publishable.
    """
    from assets.paths import root
    from pipelines.explorer.export import export_pages

    written = export_pages(root(), recipe, folder)
    print(f"{len(written)} pages; begin with {written[-1]}")
