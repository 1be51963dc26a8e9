"""The part of `olmo diff` on documents: what one side's tokens hold and the other's do not."""

from typing import TYPE_CHECKING

from rich.console import Console

from pipelines.cli.terminal import plain_line, table

if TYPE_CHECKING:
    from olmo_core.lineage.documents import ComparedDocuments


def print_documents(console: Console, found: "ComparedDocuments") -> None:
    """Print by source what one side alone has, and what both have with other texts."""
    kinds = {
        "only in the first": found.first,
        "only in the second": found.second,
        "with another text": found.changed,
    }
    if not found.sources:
        console.print("documents: the same, with the same texts")
        return
    columns = ("source", *(f"{kind}{of}" for kind in kinds for of in ("", ", tokens")))
    rows = [
        [source, *(f"{n:,}" for each in kinds.values() for n in each.count_of(source))]
        for source in map(plain_line, found.sources)
    ]
    console.print(table(columns, rows, right=columns[1:], title="documents"))
    for kind, each in kinds.items():
        if each.ids:
            further = each.documents - len(each.ids)
            more = f" and {further:,} more" if further else ""
            console.print(plain_line(f"{kind}: {', '.join(each.ids)}{more}"))
