"""`olmo takedown`: what holds documents that must leave, a rebuild's cost, and the proof of it."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from assets.assemble import build_graph
from assets.graph import Graph
from assets.lineage.runs import Lineage
from assets.paths import root
from assets.recipe import load_recipe
from assets.takedown.affected import GROUPS, Affected
from assets.takedown.holdings import Holdings
from assets.takedown.ledger import TakenDown
from assets.takedown.lists import SourceList, planned_lists, write_lists
from assets.takedown.records import read_records
from assets.takedown.request import Request, read_request
from assets.takedown.search import Target, corpora, search
from assets.takedown.verify import Verified, taken_down, unwanted, verify
from olmo_core.errors import ConfigError
from pipelines.cli.cost import cost_entry, planned, print_jobs
from pipelines.cli.terminal import plain, print_json, table, terminal
from pipelines.forecast import Plan
from pipelines.launchers.router import site_launcher

SHOWN = 40  # documents, and places of a group, on a terminal
EXIT_HELD = 1


@dataclass(frozen=True, kw_only=True)
class Takedown:
    """What is asked for of a recipe, what was found, and what is to be written."""

    recipe: str
    request: Request
    targets: Sequence[Target]  # of every corpus
    holdings: Holdings
    lists: Sequence[SourceList]

    @property
    def documents(self) -> list[TakenDown]:
        """Return what the ledger gets."""
        published = [
            TakenDown(
                id=name,
                source=rows[0].file.split("/")[1],
                sha1=None,
                url=None,
                why="asked for",
                of=name,
            )
            for spans in self.holdings.published.values()
            for name, rows in spans.items()
        ]
        return [*taken_down(self.targets), *published]


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
    found = None if docs is None else _find(recipe, docs)
    if proves:
        return _prove(recipe, [] if found is None else found.targets, as_json=as_json)
    assert found is not None
    rows = [*found.holdings.rows()]
    if write:
        write_lists(found.lists, load_recipe(recipe), found.documents)
    graph = build_graph(load_recipe(recipe))
    plan = _rebuild(graph)
    if as_json:
        print_json(_entry(found, rows, plan, written=write))
    else:
        _print(terminal(), found, rows, plan, written=write)
    return 0


def _find(recipe: str, docs: Path) -> Takedown:
    """Search everything for what a file asks for."""
    loaded = load_recipe(recipe)
    if str(docs) == "-":
        request = read_request(sys.stdin.buffer.read(), "standard input")
    else:
        try:
            request = read_request(docs.read_bytes(), str(docs))
        except OSError as error:
            raise ConfigError(f"--docs {docs}: {error.strerror}; expected a file") from None
    records = read_records(root())
    found = corpora(records)
    known = search(found, request.lines)
    holdings = Holdings(records=records, corpora=found, asked=[*request.lines])
    unknown = request.lines.keys() - known - holdings.known()
    searched = sum(record.asset in ("raw", "tokens") for record in records.values())
    request.require_known(unknown, f"the {searched} corpora and token sets below {root()}")
    targets = [target for corpus in found for target in corpus.targets.values()]
    return Takedown(
        recipe=recipe,
        request=request,
        targets=targets,
        holdings=holdings,
        lists=planned_lists(loaded, targets),
    )


def _rebuild(graph: Graph) -> Plan:
    """Return what making anew all that is made from the texts would take."""
    launcher = site_launcher()
    first = "raw" if "raw" in graph.nodes else "tokens"
    stale = [name for name in graph.nodes if first in graph.select([name])]
    return planned(graph, stale, launcher, force=True)


def _prove(recipe: str, targets: Sequence[Target], *, as_json: bool) -> int:
    lineage = Lineage(recipe)
    documents = unwanted(lineage, targets)
    found = [*verify(lineage, documents)]
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


def _entry(
    found: Takedown, rows: Sequence[Affected], plan: Plan, *, written: bool
) -> dict[str, Any]:
    return {
        "recipe": found.recipe,
        "documents": [
            {
                "id": target.id,
                "source": target.source,
                "url": target.url,
                "sha1": target.sha1,
                "why": target.why,
                "of": target.of,
                "cluster": target.cluster,
                "similarity": target.similarity,
                "raw": str(target.raw),
                "path": target.src,
                "line": target.line,
                "excluded": target.excluded,
            }
            for target in found.targets
        ],
        "published": [
            {"id": name, "tokens": str(path), "files": sorted({row.file for row in spans})}
            for path, names in found.holdings.published.items()
            for name, spans in names.items()
        ],
        "affected": [
            {
                "group": row.group,
                "place": row.place,
                "recipe": row.record and row.record.recipe,
                "asset": row.record and row.record.asset,
                "holds": row.holds,
                "documents": row.documents,
                "what": row.what,
                "do": row.do,
            }
            for row in rows
        ],
        "lists": [
            {
                "source": each.source.name,
                "path": str(each.path),
                "recipe_file": str(each.recipe_file),
                "recipe_line": None if each.has_key else each.recipe_line,
                "entries": [*each.entries],
                "written": written,
            }
            for each in found.lists
        ],
        "rebuild": cost_entry(found.recipe, plan, site_launcher().site, [], []),
    }


def _print(
    console: Console, found: Takedown, rows: Sequence[Affected], plan: Plan, *, written: bool
) -> None:
    _print_documents(console, found)
    base = f"{root()}/"
    for group in GROUPS:
        own = [row for row in rows if row.group == group]
        if not own:
            continue
        shown = [
            [
                plain(row.place.removeprefix(base)),
                row.holds,
                str(row.documents or ""),
                plain(row.what),
            ]
            for row in own[:SHOWN]
        ]
        columns = ("place", "holds", "documents", "")
        console.print(table(columns, shown, right=("documents",), title=f"\n{group}"))
        if len(own) > SHOWN:
            console.print(f"… and {len(own) - SHOWN:,} more; --json has all")
    _print_lists(console, found, written=written)
    console.print(f"\nWhat a rebuild takes (olmo run {found.recipe}):")
    print_jobs(console, found.recipe, plan, site_launcher().site, [], [])
    console.print(
        "\nNothing is deleted. What lies above stays until its folders are deleted; what was "
        "pushed or copied elsewhere must be taken back there.\n"
        f"After the rebuild: olmo takedown {found.recipe} --verify"
    )


def _print_documents(console: Console, found: Takedown) -> None:
    once = {(t.sha1, t.id): t for t in found.targets}
    reasons = Counter(target.why for target in once.values())
    said = ", ".join(f"{count:,} {why}" for why, count in reasons.items())
    console.print(plain(f"{found.recipe}: {len(once):,} documents must leave: {said}"))
    rows = [
        [
            plain(target.id),
            target.why + (f", {target.similarity:.2f}" if target.similarity is not None else ""),
            "" if target.of == target.id else plain(target.of),
        ]
        for target in [*once.values()][:SHOWN]
    ]
    for spans in found.holdings.published.values():
        rows += [[plain(name), "asked for", "in published token files"] for name in spans]
    console.print(table(("document", "why, similarity", "of"), rows))
    if len(once) > SHOWN:
        console.print(f"… and {len(once) - SHOWN:,} more; --json has all")


def _print_lists(console: Console, found: Takedown, *, written: bool) -> None:
    for each in found.lists:
        does = "Written" if written else "To be written by --write"
        console.print(
            plain(
                f"\n{does}: {each.path}: {each.documents:,} documents of source {each.source.name}"
            )
        )
        if not each.has_key:
            console.print(plain(f"  {each.recipe_file}: {each.recipe_line}"))
    if not found.lists and found.targets:
        console.print("\nThe recipe's lists name all of them already.")
