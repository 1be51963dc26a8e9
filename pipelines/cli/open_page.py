"""`olmo open`: a page of the Dagster UI that is at work on this machine."""

import json
import urllib.error
import urllib.request
import webbrowser
from urllib.parse import quote

from assets.assemble import build_graph
from assets.evals.sweep import SWEEP
from assets.recipe import load_recipe
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError, InputError

PATIENCE_SECONDS = 5.0
LOCATION = "pipelines.definitions"  # of workspace.yaml


def open_page(recipe: str | None, asset: str | None, host: str, port: int, *, browse: bool) -> None:
    """Print the address of a page, and open it in a browser where there is one.

    Args:
        recipe: Whose graph; None: the UI's first page.
        asset: Whose page; None: the recipe's graph.
        host: That the UI listens on.
        port: Of the UI.
        browse: False: print it alone.

    Raises:
        ConfigError: no such recipe or asset.
        InputError: no Dagster UI answers there.
    """
    address = f"http://{host}:{port}"
    page = f"{address}/{_path(recipe, asset)}"
    _require_answer(address)
    print(page)
    if browse:
        webbrowser.open(page)


def _path(recipe: str | None, asset: str | None) -> str:
    if recipe is None:
        return ""
    names = [*build_graph(load_recipe(recipe)).nodes, *SWEEP]
    if asset is None:
        return f"locations/{LOCATION}/jobs/{quote(recipe)}"
    if asset not in names:
        raise ConfigError(f"recipe {recipe} has no asset {asset!r}; {nearest(asset, names)}")
    return f"assets/{quote(recipe)}/{quote(asset)}"


def _require_answer(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=PATIENCE_SECONDS) as answer:
            known = json.load(answer)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise InputError(
            f"{address}: no Dagster UI answers ({why}); start it with olmo ui, or give its --port"
        ) from None
    if not isinstance(known, dict) or "dagster_version" not in known:
        raise InputError(f"{address}: something else than a Dagster UI listens there; give --port")
