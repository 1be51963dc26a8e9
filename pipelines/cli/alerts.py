"""The commands `olmo alerts …`."""

import typer

app = typer.Typer(no_args_is_help=True, help="Messages to a webhook when something fails.")


@app.callback()
def alerts() -> None:
    """Messages to a webhook when something fails: docs/alerts.md."""


@app.command(epilog="Example:\n\n  olmo alerts test")
def test() -> None:
    """Send a test message to the webhook that the site file names. Exit code 1: not delivered."""
    from pipelines.cli.send_alert import send_test

    raise typer.Exit(send_test())
