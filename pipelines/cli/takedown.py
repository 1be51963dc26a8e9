"""`olmo takedown`: what holds documents that must leave, a rebuild's cost, and the proof of it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.assemble import build_graph
from assets.graph import Graph
from assets.paths import root
from assets.recipe import load_recipe
from assets.takedown.affected import Affected
from assets.takedown.lists import write_lists
from assets.takedown.request import Request, read_request
from assets.takedown.search import Target
from assets.takedown.takedown import find
from assets.takedown.verify import Verified, looked_for, verify
from olmo_core.errors import ConfigError
from pipelines.cli.cost import planned
from pipelines.cli.show_takedown import SHOWN, print_takedown, takedown_entry
from pipelines.cli.terminal import plain, print_json, table, terminal
from pipelines.collect.decisions import releases
from pipelines.forecast import Plan
from pipelines.launchers.router import site_launcher

EXIT_HELD = 1


def take_down(recipe: str, docs: Path | None, *, write: bool, proves: bool, as_json: bool) -> int:
    """List what holds documents or has seen them; write their lists; or prove that none is read.

    Args:
        recipe: Its name.
        docs: The file that names them; `-` is standard input.
        write: Write the lists, the keys that name them, and the ledger.
        proves: Look through the training runs of the recipe as it stands.
        as_json: JSON alone.

    Raises:
        ConfigError: no such recipe; the file asks for what no corpus knows; a key of corpus.yaml
            must be added by hand.
    """
    if docs is None and (write or not proves):
        raise ConfigError(
            "--docs: missing; expected the file that names the documents, or --verify"
        )
    found = None if docs is None else find(recipe, _request(docs), root())
    if proves:
        return _prove(recipe, [] if found is None else found.targets, as_json=as_json)
    assert found is not None
    rows = [*found.holdings.rows()]
    rows += _published(rows)
    if write:
        write_lists(found.lists, load_recipe(recipe), found.documents)
    graph = build_graph(load_recipe(recipe))
    plan = _rebuild(graph)
    if as_json:
        print_json(takedown_entry(found, rows, plan, written=write))
    else:
        print_takedown(terminal(), found, rows, plan, written=write)
    return 0


def _request(docs: Path) -> Request:
    if str(docs) == "-":
        return read_request(sys.stdin.buffer.read(), "standard input")
    try:
        return read_request(docs.read_bytes(), str(docs))
    except OSError as error:
        raise ConfigError(f"--docs {docs}: {error.strerror}; expected a file") from None


def _published(rows: Sequence[Affected]) -> list[Affected]:
    """Return where what has seen the documents was published to, as `olmo release push` records."""
    saw = {row.record.name for row in rows if row.record is not None and row.holds == "saw"}
    return [
        Affected(
            group="elsewhere",
            place=decision.said,
            holds="saw",
            documents=0,
            what=f"{', '.join(run for run in decision.runs if run in saw)}, published {decision}",
            do="take it back there",
        )
        for decision in releases(root())
        if saw & set(decision.runs)
    ]


def _rebuild(graph: Graph) -> Plan:
    """Return what making anew all that is made from the texts would take."""
    launcher = site_launcher()
    first = "raw" if "raw" in graph.nodes else "tokens"
    stale = [name for name in graph.nodes if first in graph.select([name])]
    return planned(graph, stale, launcher, force=True)


def _prove(recipe: str, targets: Sequence[Target], *, as_json: bool) -> int:
    graph = build_graph(load_recipe(recipe))
    documents = looked_for(graph, root(), targets)
    found = [*verify(graph, root(), targets)]
    passed = all(each.passed for each in found)
    if as_json:
        entry = {"recipe": recipe, "texts": len(documents.sha1s), "passed": passed}
        print_json({**entry, "runs": [_verified_entry(each) for each in found]})
    else:
        _print_proof(terminal(), recipe, len(documents.sha1s), found)
    return 0 if passed else EXIT_HELD


def _verified_entry(each: Verified) -> dict[str, Any]:
    proof = each.proof
    return {
        "asset": each.asset,
        "path": None if each.run is None else str(each.run.path),
        "passed": each.passed,
        "why": each.why,
        "steps": None if proof is None else proof.steps,
        "instances": None if proof is None else proof.instances,
        "tokens": None if proof is None else proof.tokens,
        "documents": None if proof is None else proof.documents,
        "held": [vars(held) for held in proof.held] if proof is not None else [],
    }


def _print_proof(console: Console, recipe: str, texts: int, found: Sequence[Verified]) -> None:
    if not texts:
        console.print(plain(f"{recipe}: nothing was taken down: there is nothing to look for"))
    rows: list[list[str]] = []
    for each in found:
        proof = each.proof
        figures = (
            ["", "", "", ""]
            if proof is None
            else [f"{n:,}" for n in (proof.steps, proof.instances, proof.tokens, proof.documents)]
        )
        said = each.why or f"holds {len(proof.held) if proof else 0} of them"
        rows.append([each.asset, *figures, "holds none" if each.passed else plain(said)])
    columns = ("run", "steps", "instances", "tokens", "documents", f"of {texts:,} texts")
    console.print(table(columns, rows, right=columns[1:5]))
    for each in found:
        for held in each.proof.held[:SHOWN] if each.proof else ():
            line = f"✗ {each.asset}: {held.id}: {held.tokens} tokens in its batches ({held.file})"
            console.print(plain(line), style="red")
    if all(each.passed for each in found):
        console.print(
            "Every token of every batch of all steps is of a document that was looked at, and none "
            "of these is one of them."
        )
