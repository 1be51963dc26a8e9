"""`olmo gc`, `olmo pin`, `olmo unpin`: which versions stay, and which are taken away."""

from typing import Annotated

import typer

from pipelines.cli.arguments import AsJson, names_of

app = typer.Typer()
Version = Annotated[
    str,
    typer.Argument(metavar="RECIPE/ASSET/VERSION", help="As in demo/stage1/092d8a948985."),
]


@app.command(
    epilog="Examples:\n\n"
    "  olmo gc                          what would go, and what that frees\n\n"
    "  olmo gc --verbose                each version, and why it stays or goes\n\n"
    "  olmo gc --delete --older-than 30d\n\n"
    "  olmo gc --delete --keep-trash    only moved; olmo gc --restore puts all of it back\n\n"
    "  olmo gc --only demo/stage1/092d8a948985 --dependents --delete\n\n"
    "  olmo gc --json | jq '.[] | select(.stays == false) | .name, .why'",
)
def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Take it away; without this nothing is changed.")
    ] = False,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Only what was at work, or the newest of its asset, so long ago: 12h, 7d, 4w.",
        ),
    ] = "7d",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECIPE/ASSET/VERSION",
            help="These versions, whatever they are, and nothing else; repeated or with commas.",
        ),
    ] = None,
    dependents: Annotated[
        bool, typer.Option("--dependents", help="With --only: also all that depends on them.")
    ] = False,
    released: Annotated[
        bool, typer.Option("--released", help="With --only: even what has been published.")
    ] = False,
    keep_trash: Annotated[
        bool,
        typer.Option("--keep-trash", help="With --delete: move it into the trash, and stop there."),
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Put back what is in the trash; nothing else.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Each version, and why it stays or goes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List versions that nobody needs, and what they hold; with --delete take them away.

    Kept are: what is at work, the newest of every asset, what counts now for any recipe, what was
    accepted, pinned, published or reused, and all that one of these was made from.
    """
    from pipelines.cli.gc import GcOptions, restore_trash, run_gc

    if restore:
        raise typer.Exit(restore_trash())
    options = GcOptions(
        delete=delete,
        older_than=older_than,
        only=tuple(names_of(only)),
        dependents=dependents,
        released=released,
        keep_trash=keep_trash,
        verbose=verbose,
        as_json=as_json,
    )
    raise typer.Exit(run_gc(options))


@app.command(
    epilog="Examples:\n\n"
    '  olmo pin demo/stage1/092d8a948985 --because "the run of the paper"\n\n'
    "  olmo pin                         what is pinned",
)
def pin(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE/ASSET/VERSION]",
            help="As in demo/stage1/092d8a948985; without it all pins are listed.",
            show_default=False,
        ),
    ] = None,
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why it must stay.")] = "",
) -> None:
    """Keep a version, and all that it was made from, whatever `olmo gc` would do."""
    from pipelines.cli.gc import pin_version, print_pins

    if name is None:
        print_pins()
    else:
        pin_version(name, because)


@app.command(epilog="Example:\n\n  olmo unpin demo/stage1/092d8a948985")
def unpin(name: Version) -> None:
    """Take a pin back; nothing goes before the next `olmo gc --delete`."""
    from pipelines.cli.gc import unpin_version

    unpin_version(name)
