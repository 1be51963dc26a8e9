"""`olmo corpus inspect`: the documents of a recipe, and what its rules make of each."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from assets.assemble import build_graph
from assets.corpus.doors import absences
from assets.graph import Graph
from assets.paths import root
from assets.recipe import load_recipe
from assets.reporting.texts import visible, visible_line
from olmo_core.config.load import nearest
from olmo_core.corpus.document import Document, source_names
from olmo_core.corpus.filters.filtered import FilteredConfig, attribute_folders
from olmo_core.corpus.filters.replacements import Replacement, replaced, spans_to_replace
from olmo_core.corpus.filters.rules import BLANK, Rule
from olmo_core.corpus.toolkit import joined, marked_files
from olmo_core.errors import ConfigError
from pipelines.cli.terminal import plain_line, print_json, table, terminal

SHOWN_CHARACTERS = 600
AROUND_CHARACTERS = 200  # on both sides of what --grep finds


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which documents to show: those for which all that is given holds."""

    source: str | None = None
    dropped_by: str | None = None  # the first rule that drops it, or `BLANK`
    kept: bool = False
    grep: str | None = None  # a regular expression that the text holds
    id: str | None = None

    def holds(self, document: Document, reason: str | None) -> bool:
        """Return whether to show a document, given why it is dropped."""
        return (
            self.id in (None, document.id)
            and self.dropped_by in (None, reason)
            and not (self.kept and reason)
            and (self.grep is None or re.search(self.grep, document.text) is not None)
        )


def inspect(recipe: str, wanted: Wanted, *, limit: int, as_json: bool) -> None:
    """Print up to `limit` documents and, where all were looked at, how many each rule drops.

    The rules are the recipe's as it stands, so that an edit is seen before it is run.

    Raises:
        ConfigError: a name that the recipe does not have, or an asset that is not made yet.
    """
    graph = build_graph(load_recipe(recipe))
    if (absent := absences(graph.recipe)) is not None:
        raise ConfigError(f"{recipe}: no documents to inspect. {absent}")
    section = graph.recipe.section("corpus", "filtered", FilteredConfig)
    _check(wanted, section)
    shown: list[dict[str, Any]] = []
    counts: Counter[tuple[str, str]] = Counter()
    whole = True
    judged = False  # the document of --id
    for document, attributes in _documents(graph, wanted.source):
        applied = section.rules.get(document.source, ())
        replacements = section.replacements.get(document.source, ())
        reason = _reason(document, attributes, applied, replacements)
        counts[document.source, reason or ""] += 1
        judged = judged or document.id == wanted.id
        if not wanted.holds(document, reason):
            continue
        if len(shown) == limit and limit:
            whole = False
            break
        if limit:
            shown.append(_entry(document, reason, applied, attributes))
    unseen = None if judged else wanted.id
    left_out = [] if unseen is None else _left_out(graph, unseen)
    if as_json:
        print_json([*shown, *left_out])
        return
    console = terminal()
    for row in left_out:
        said = f"{row['id']}: left out by {row['left_out_by']}: {row['reason']}"
        console.print(Text(visible_line(said)))
    if unseen is not None and not left_out:
        console.print(Text(f"{unseen}: no such document among those looked at, or left out"))
    for entry in shown:
        console.print(_text(entry, wanted.grep), "")
    if whole:
        rows = [
            (source, name or "kept", f"{number:,}")
            for (source, name), number in sorted(counts.items())
        ]
        console.print(table(("source", "rule", "documents"), rows, right=("documents",)))
    else:
        console.print(f"the first {limit}; --limit 0 counts all of them")


def _reason(
    document: Document,
    attributes: Mapping[str, Any],
    rules: Sequence[Rule],
    replacements: Sequence[Replacement],
) -> str | None:
    """Return why a document is dropped, as `filtered` does it; None where it stays."""
    for rule in rules:
        if rule.drops(document.text, attributes):
            return rule.name
    spans = spans_to_replace(attributes, replacements)
    return None if replaced(document.text, spans).strip() else BLANK


def _check(wanted: Wanted, section: FilteredConfig) -> None:
    rules = section.rules
    if wanted.source is not None and wanted.source not in rules:
        raise ConfigError(f"--source {wanted.source}: {nearest(wanted.source, rules)}")
    names = [rule.name for each in rules.values() for rule in each]
    names += [BLANK] if section.replacements else []
    if wanted.dropped_by is not None and wanted.dropped_by not in names:
        raise ConfigError(f"--dropped-by {wanted.dropped_by}: {nearest(wanted.dropped_by, names)}")
    try:
        re.compile(wanted.grep or "")
    except re.error as error:
        raise ConfigError(f"--grep {wanted.grep}: {error}; expected a regular expression") from None


def _documents(graph: Graph, source: str | None) -> Iterator[tuple[Document, dict[str, Any]]]:
    """Yield each document that the rules judge, with all of its attributes."""
    folders: dict[str, Path] = {}
    for name in graph.nodes["filtered"].inputs:
        run = graph.finished(root(), name)
        if run is None:
            raise ConfigError(
                f"{name} is not made yet; olmo run {graph.recipe.name} --select {name}"
            )
        folders[name] = run.path
    documents = folders["held_out"] / "documents"
    for name in [source] if source else source_names(documents):
        attributes = (each / name for each in attribute_folders(folders, name))
        for _, rows in marked_files(documents / name, *attributes):
            for document, marks in rows:
                yield document, joined(document.id, marks)


def _left_out(graph: Graph, doc_id: str) -> list[dict[str, str]]:
    """Return what the documents index says of a document that the rules did not see.

    Raises:
        ConfigError: there is no index yet.
    """
    run = graph.finished(root(), "documents")
    if run is None:
        raise ConfigError(
            f"{doc_id}: not among the documents that rules judge, and `documents`, which knows of "
            f"others, is not made yet; olmo run {graph.recipe.name} --select documents"
        )
    from olmo_core.data.document_index import DocumentIndex

    return [
        {"id": each.id, "source": each.source, "left_out_by": each.asset, "reason": each.reason}
        for each in DocumentIndex(run.path).dropped_of_id(doc_id)
    ]


def _entry(
    document: Document, reason: str | None, rules: tuple[Rule, ...], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "id": document.id,
        "source": document.source,
        "dropped_by": reason,
        "measures": {each.name: round(each.value(document.text, attributes), 6) for each in rules},
        "metadata": document.metadata,
        "text": document.text,
    }


def _text(entry: Mapping[str, Any], grep: str | None) -> Text:
    """Return a document as a person reads it, what was searched for in bold."""
    text, begin = entry["text"], 0
    found = re.search(grep, text) if grep else None
    if found is not None:
        begin = max(0, found.start() - AROUND_CHARACTERS)
    end = begin + SHOWN_CHARACTERS
    verdict = f"dropped by {entry['dropped_by']}" if entry["dropped_by"] else "kept"
    measures = ", ".join(f"{name} {value:g}" for name, value in entry["measures"].items())
    shown = ("… " if begin else "") + text[begin:end] + (" …" if end < len(text) else "")
    made = Text.from_markup(
        f"[bold]{plain_line(entry['id'])}[/bold]  {verdict}\n{escape(measures)}\n"
    )
    body = Text(visible(shown))
    if grep:
        body.highlight_regex(grep, "bold yellow")
    return made + body + Text("\n")
