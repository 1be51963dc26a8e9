"""The addresses of the pages: names of what is in the index, never paths of files."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, urlencode

from pipelines.explorer.experiments import Experiment

EXPERIMENTS = "/"


def model(recipe: str, asset: str, version: str | None = None) -> str:
    """Return the page of a training run or a soup; without a version, of the latest."""
    return _path("model", recipe, asset, *([version] if version else []))


def model_of(run: Path) -> str:
    """Return the page of a run, in whichever recipe's folder it lies, and in whichever root."""
    return model(*run.parts[-3:])


def step(experiment: Experiment, number: int | None) -> str:
    """Return the page of a step's documents; None: the address that ends before the number."""
    return step_of(experiment.folder.path, number)


def step_of(run: Path, number: int | None) -> str:
    """Return the same of a run by its folder, in whichever recipe's, and in whichever root."""
    return f"{_path('step', *run.parts[-3:])}?step={'' if number is None else number}"


def document(recipe: str, query: str) -> str:
    """Return the page of a document: of its id, its URL, or the SHA-1 of its text."""
    return f"{documents(recipe)}?{urlencode({'q': query}, errors='surrogatepass')}"


def documents(recipe: str) -> str:
    """Return the page on which documents of a recipe are searched for."""
    return _path("documents", recipe)


def plan(recipe: str) -> str:
    """Return the page of what is up to date and what is not."""
    return _path("plan", recipe)


def compare(ids: Iterable[str]) -> str:
    """Return the page of experiments side by side."""
    return f"/compare?{urlencode([('run', each) for each in ids])}"


def _path(*parts: str) -> str:
    return "/" + "/".join(quote(part, safe="") for part in parts)
