"""The pages of a recipe as files that stay with its release: each stands alone."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from assets.assemble import build_graph
from assets.corpus.doors import publishable_sources
from assets.lineage.answers import trace_step
from assets.recipe import load_recipe
from olmo_core.errors import ConfigError
from olmo_core.files import write_atomic
from pipelines.explorer import addresses
from pipelines.explorer.compare import MOST, compare_page
from pipelines.explorer.documents import documents_page
from pipelines.explorer.experiments import MODEL, Experiment, every_experiment
from pipelines.explorer.lineages import lineage_of
from pipelines.explorer.metrics import read_logged
from pipelines.explorer.model import model_page, notable_steps
from pipelines.explorer.plan import plan_page
from pipelines.explorer.render import Page, alone
from pipelines.explorer.scores import Scores
from pipelines.explorer.steps import step_page
from pipelines.explorer.table import experiments_page

INDEX = "index.html"


def export_pages(root: Path, recipe: str, folder: Path) -> list[Path]:
    """Write the pages of a recipe's finished models, and of what they lead to; return the files.

    The table of these models, a page per model, all of them side by side, the plan, the documents
    of each training's first, last, spiking and skipped steps, and a page per document of those.

    Args:
        root: Of results.
        recipe: Its name.
        folder: New, or empty.

    Raises:
        ConfigError: the folder holds something, the recipe is broken, or no model is finished.
        InputError: what a step has read is not known any more.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; expected a new or an empty folder")
    pages = dict(_pages(root, recipe))
    saved = {address: name for address, (name, _) in pages.items()}
    written: list[Path] = []
    # The table, from which all others are reached, is written last.
    for name, page in sorted(pages.values(), key=lambda each: each[0] == INDEX):
        path = folder / name
        write_atomic(path, alone(page, saved).encode())
        written.append(path)
    return written


def _pages(root: Path, recipe: str) -> Iterator[tuple[str, tuple[str, Page]]]:
    """Yield name and page of each file by the address of the page."""
    models = finished_models(root, recipe)
    texts = publishable_sources(load_recipe(recipe)).__contains__
    scores = Scores(root)
    ids = [each.id for each in models]
    compared = addresses.compare(ids[:MOST])
    yield addresses.EXPERIMENTS, (INDEX, experiments_page(root, scores, ids, compared))
    yield addresses.plan(recipe), ("plan.html", plan_page(root, recipe))
    yield compared, ("compare.html", compare_page(root, scores, ids[:MOST], ""))
    documents: dict[str, None] = {}
    for each in models:
        names = (each.recipe, each.asset, each.version)
        page = model_page(root, scores, *names)
        yield addresses.model(*names), (f"model-{each.asset}.html", page)
        for step in _steps(each):
            page = step_page(root, *names, str(step), texts)
            yield addresses.step(each, step), (f"step-{each.asset}-{step}.html", page)
            documents |= dict.fromkeys(_documents(each, step))
    for document in documents:
        digest = hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()
        page = documents_page(recipe, document, texts)
        yield addresses.document(recipe, document), (f"document-{digest[:16]}.html", page)


def finished_models(root: Path, recipe: str) -> list[Experiment]:
    """Return the finished trainings and the soup of a recipe as it stands, in the graph's order.

    Raises:
        ConfigError: there is none.
    """
    graph = build_graph(load_recipe(recipe))
    known = {each.folder.path: each for each in every_experiment(root)}
    runs = [graph.finished(root, name) for name in graph.nodes if MODEL.fullmatch(name)]
    found = [known[run.path] for run in runs if run is not None and run.path in known]
    if not found:
        raise ConfigError(f"{recipe}: no model of it is finished; olmo run {recipe}")
    return found


def _steps(experiment: Experiment) -> list[int]:
    if not experiment.trained:
        return []
    logged = read_logged(experiment.folder.metrics)
    return [*dict.fromkeys(step for _, step in notable_steps(logged))]


def _documents(experiment: Experiment, step: int) -> list[str]:
    with lineage_of(experiment.recipe) as lineage:
        answer = trace_step(lineage, step, stage=experiment.asset, version=experiment.version)
    return [each.document.id for pieces in answer.pieces for each in pieces]
