"""`olmo release`: the finished export and card of a recipe, checked and published."""

import subprocess
import sys
from pathlib import Path

from assets.assemble import build_graph
from assets.execution.hold import results_held
from assets.graph import Graph
from assets.paths import CHECKOUT, root
from assets.recipe import load_recipe
from assets.reporting.texts import amount
from olmo_core.config.model_card import ModelCardConfig
from olmo_core.config.paths import expanded
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.folder import RunFolder
from pipelines.cli.terminal import table, terminal
from pipelines.collect.decisions import record_release


def verify_export(export: str) -> int:
    """Check an export in a process of its own, which has torch; return its exit code.

    Raises:
        ConfigError: neither a finished run's folder nor a recipe whose export is finished.
    """
    folder, cards = Path(export), list[str]()
    if not (folder / "result.json").is_file():
        graph = build_graph(load_recipe(export))
        folder = _finished(graph, "export")
        # The export may be another recipe's, and cards of its own stand beside it.
        card = graph.finished(root(), "model_card")
        cards = ["--cards", *([] if card is None else [str(card.path)])]
    command = [sys.executable, "-m", "olmo_core.release.verify", str(folder), *cards]
    return subprocess.run(command, check=False).returncode


def push_release(
    recipe: str, repository: str | None, *, dry_run: bool, private: bool, replace: bool
) -> None:
    """Publish the export and the card that a recipe has now.

    Raises:
        ConfigError: they are not finished, a check failed, the card has no texts of its own,
            there is no licence's text, or the hub holds something else.
        StorageError: the hub cannot be reached, or refuses.
    """
    from olmo_core.release.push import plan, push, require_name  # 0.5 s: huggingface_hub

    graph = build_graph(load_recipe(recipe))
    export, card = (_finished(graph, name) for name in ("export", "model_card"))
    data = RunFolder(card).read_result()["report"]["data"]
    if data["unconfirmed"]:
        raise ConfigError(f"{recipe}: {data['unconfirmed']}")
    name = repository or str(data["repository"])
    section = graph.recipe.section("evals", "model_card", ModelCardConfig)
    console = terminal()
    try:
        require_name(name)
        revisions = plan(export, card, licence_file(section, graph.recipe.evals.file))
        rows = [
            (revision.name, str(len(revision.files)), amount(revision.size_bytes))
            for revision in revisions
        ]
        columns = ("revision", "files", "bytes")
        console.print(table(columns, rows, right=columns[1:], title=name))
        if dry_run:
            seen = "private" if private else "public"
            console.print(f"Nothing was sent. A repository that is not there would be {seen}.")
            return
        with results_held(root()):
            record_release(root(), [export, card], name)
        push(name, revisions, private=private, replace=replace, say=console.print)
    except InputError as error:
        raise ConfigError(str(error)) from None


def licence_file(section: ModelCardConfig, where: str) -> Path:
    """Return the file with the licence's text; the project's own is that of apache-2.0.

    Raises:
        ConfigError: there is none.
    """
    if not section.license_file and section.license == "apache-2.0":
        return CHECKOUT / "LICENSE"
    expected = f"expected a file with the text of {section.license_name or section.license}"
    if not section.license_file:
        raise ConfigError(f"{where}: model_card: license_file: missing; {expected}")
    path, found = expanded(section.license_file)
    if not path.is_file():
        raise ConfigError(
            f"{where}: model_card: license_file: {section.license_file} ({found}): no such file; "
            f"{expected}"
        )
    return path


def _finished(graph: Graph, name: str) -> Path:
    run = graph.finished(root(), name)
    recipe = graph.recipe.name
    if run is None:
        raise ConfigError(f"{recipe}: {name} is not made, or is stale; first: olmo run {recipe}")
    if why := graph.failed_check(root(), name):
        raise ConfigError(f"{recipe}: {name}: {why}; nothing is published")
    return run.path
