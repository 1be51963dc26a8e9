"""What `olmo takedown` prints: documents, what holds or saw them, their lists, a rebuild's cost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from assets.paths import root
from assets.takedown.affected import GROUPS, Affected
from assets.takedown.takedown import Takedown
from pipelines.cli.cost import cost_entry, print_jobs
from pipelines.cli.terminal import plain, table
from pipelines.forecast import Plan
from pipelines.launchers.router import site_launcher

SHOWN = 40  # documents, and places of a group, on a terminal


def takedown_entry(
    found: Takedown, rows: Sequence[Affected], plan: Plan, *, written: bool
) -> dict[str, Any]:
    """Return what `print_takedown` prints, and more, as JSON."""
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
                "figures": dict(row.figures),
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


def print_takedown(
    console: Console, found: Takedown, rows: Sequence[Affected], plan: Plan, *, written: bool
) -> None:
    """Print what must leave and why, what is affected by group, the lists, and the cost."""
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
        "\nNothing is deleted; what was pushed or copied elsewhere must be taken back there.\n"
        f"After the rebuild: olmo takedown {found.recipe} --verify"
    )
    for row in rows:
        if row.group == "corpus" and row.record is not None and row.record.asset == "raw":
            console.print(plain(f"{row.place.removeprefix(base)}: {row.do}"))


def _print_documents(console: Console, found: Takedown) -> None:
    once = {(t.sha1, t.id): t for t in found.targets}
    reasons = Counter(target.why for target in once.values())
    said = ", ".join(f"{count:,} {why}" for why, count in reasons.items())
    many = "s" * (len(once) != 1)
    console.print(plain(f"{found.recipe}: {len(once):,} document{many} must leave: {said}"))
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
    for path, names in found.holdings.published.items():
        does = "is refused from now on" if written else "is refused once they are written"
        console.print(
            plain(
                f"\n{len(names):,} documents stand in published token files ({path}), of which "
                f"none can be left out: a recipe that names these files {does}. Take them out of "
                "tokens.published, or have them published without."
            )
        )
