"""The explorer: read-only pages over the run folders, as an ASGI application.

Each page is a function of what it is asked for that returns a `Page`; the handlers here look things
up by id, say what is not there, and answer. They run in threads, so a slow one holds no other up.
"""

import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from assets.corpus.doors import publishable_sources
from assets.paths import root as results_root
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError, InputError
from pipelines.explorer.compare import compare_page
from pipelines.explorer.documents import documents_page
from pipelines.explorer.errors import Missing
from pipelines.explorer.model import model_page
from pipelines.explorer.plan import plan_page, require_recipe
from pipelines.explorer.render import STATIC, Page, Publishable, alone, served
from pipelines.explorer.scores import Scores
from pipelines.explorer.security import LOOPBACK, Guard
from pipelines.explorer.steps import step_page
from pipelines.explorer.table import experiments_page

SAVE = "save"  # parameter of a page's address: as one file
# What a page is refused for: it names what is wrong, and where.
REFUSALS = (ConfigError, InputError)
# What records that are damaged or gone lead to, or a mistake of ours: the log has where.
UNREADABLE = (ValueError, FileNotFoundError, KeyError)


class Explorer:
    """The pages over one root of results.

    Args:
        root: Of results.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scores = Scores(root)

    def experiments(self, request: Request) -> Page:
        """Return the table of all experiments."""
        return experiments_page(self.root, self.scores)

    def model(self, request: Request) -> Page:
        """Return the page of a training run or a soup."""
        at = request.path_params
        return model_page(self.root, self.scores, at["recipe"], at["asset"], at.get("version"))

    def step(self, request: Request) -> Page:
        """Return the page of a step's documents."""
        at, step = request.path_params, request.query_params.get("step", "")
        allowed = _publishable(request, at["recipe"])
        return step_page(self.root, at["recipe"], at["asset"], at["version"], step, allowed)

    def documents(self, request: Request) -> Page:
        """Return the page of a document, or of those that are like what is searched for."""
        recipe, query = request.path_params["recipe"], request.query_params.get("q", "")
        return documents_page(recipe, query, _publishable(request, recipe))

    def compare(self, request: Request) -> Page:
        """Return the page of chosen experiments."""
        asked = request.query_params
        metric = asked.get("metric", "")
        return compare_page(self.root, self.scores, asked.getlist("run"), metric)

    def plan(self, request: Request) -> Page:
        """Return the plan of a recipe."""
        return plan_page(self.root, request.path_params["recipe"])

    def routes(self) -> list[Route]:
        """Return where each page is."""
        pages: dict[str, Callable[[Request], Page]] = {
            "/": self.experiments,
            "/model/{recipe}/{asset}": self.model,
            "/model/{recipe}/{asset}/{version}": self.model,
            "/step/{recipe}/{asset}/{version}": self.step,
            "/documents/{recipe}": self.documents,
            "/compare": self.compare,
            "/plan/{recipe}": self.plan,
        }
        return [
            *(Route(path, _answering(page), methods=["GET"]) for path, page in pages.items()),
            Route("/static/{name}", _static, methods=["GET"]),
        ]


def application(root: Path | None = None, hosts: Collection[str] = ()) -> Guard:
    """Return the explorer.

    Args:
        root: Of results; None: that of this environment.
        hosts: By which it may be asked for beside loopback's names: those of a proxy.
    """
    explorer = Explorer(root or results_root())
    app = Starlette(
        routes=explorer.routes(), exception_handlers={HTTPException: _refused, 404: _refused}
    )
    return Guard(app, [*LOOPBACK, *hosts])


def _answering(page: Callable[[Request], Page]) -> Callable[[Request], Response]:
    """Return a handler: no `async`, so that Starlette runs it in a thread."""

    def answer(request: Request) -> Response:
        try:
            found = page(request)
            if SAVE in request.query_params:
                return _saved(found)
            address = request.url.include_query_params(**{SAVE: ""})
            return HTMLResponse(served(found, save=f"{address.path}?{address.query}"))
        except Missing as error:
            return _error("Not found", str(error), 404)
        except REFUSALS as error:
            return _error("This cannot be shown", str(error), 422)
        except UNREADABLE as error:
            traceback.print_exc(file=sys.stderr)
            said = f"{type(error).__name__}: {error}. Where it arose is in the terminal or log."
            return _error("This cannot be shown", said, 422)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return _error("The explorer failed", "What happened is in the terminal or log.", 500)

    return answer


def _publishable(request: Request, recipe: str) -> Publishable:
    """Return whether a page may hold texts of a source: one that is saved may be passed on."""
    if SAVE not in request.query_params:
        return None
    require_recipe(recipe)
    return publishable_sources(load_recipe(recipe)).__contains__


def _saved(page: Page) -> Response:
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in page.title).strip("-")[:80]
    headers = {"content-disposition": f'attachment; filename="{name}.html"'}
    return HTMLResponse(alone(page, {}), headers=headers)


def _error(title: str, message: str, status: int) -> Response:
    page = Page(template="error.html", title=title, values={"message": message[:2000]})
    return HTMLResponse(served(page, save=""), status)


def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _error("Not found", "There is no such page.", status)


def _static(request: Request) -> Response:
    """Return a file of the explorer's own by its name in a fixed list."""
    found = STATIC.get(request.path_params["name"])
    if found is None:
        return _error("Not found", "There is no such file.", 404)
    path, kind = found
    return FileResponse(path, media_type=kind, headers={"cache-control": "private, max-age=600"})
