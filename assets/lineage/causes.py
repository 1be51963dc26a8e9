"""Which differences between two results are causes: each at the asset where it arose."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assets.fingerprint import ABSENT, Change, changes
from assets.lineage.sides import Side

Row = Mapping[str, Any]
CARD = "olmo_core.release.model_card"  # the job whose values are words for readers


@dataclass(frozen=True, kw_only=True)
class Found:
    """One difference, and the assets that have it."""

    change: Change
    assets: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Causes:
    """Why two sides differ, as far as what they record of themselves tells."""

    own: Sequence[Found]  # config, code, packages, inputs of which no more is known
    # asset -> those of its inputs that differ; of those made from one another the last
    because: Mapping[str, Sequence[str]]
    # what the model cards of two recipes say: no figure of any result differs by it
    card: Sequence[Found]
    same: bool  # whether all that was compared has equal fingerprints
    notes: Sequence[str]  # what could not be compared, and why


def find_causes(before: Side, after: Side) -> Causes:
    """Return what differs by the assets that have it, and which differ by their inputs alone."""
    own: list[tuple[str, list[Change]]] = []
    card: list[tuple[str, list[Change]]] = []
    whole = before.asset is None and after.asset is None
    because: dict[str, list[str]] = {}
    pairs = list(_matched(before, after))
    notes = [*_only_one_has(before, after)]
    if not pairs:
        notes.append(f"{before.name}, {after.name}: no records in common, so no cause is known")
    prints = {title: {a.get("fingerprint"), b.get("fingerprint")} for title, a, b in pairs}
    for title, a, b in pairs:
        if other_jobs(a, b):
            jobs = [record["parts"]["module"] for record in (a, b)]
            own.append((title, [Change(area="module", what="made by", old=jobs[0], new=jobs[1])]))
            continue
        if missing := sorted(set(a["parts"]) ^ set(b["parts"])):
            notes.append(f"{title}: recorded of one alone, so not compared: {', '.join(missing)}")
        found = changes(*(_without(record, missing) for record in (a, b)))
        behind = [each.what for each in found if _is_behind(each, prints)]
        values = [each for each in found if not _is_behind(each, prints)]
        if whole and a["parts"].get("module") == CARD:
            card.append((title, [each for each in values if each.area == "config"]))
            values = [each for each in values if each.area != "config"]
        own.append((title, values))
        if behind:
            because[title] = behind
    return Causes(
        own=joined(own),
        card=joined(card),
        because={title: _last(behind, because) for title, behind in because.items()},
        same=bool(pairs) and all(len(both) == 1 and None not in both for both in prints.values()),
        notes=notes,
    )


def _only_one_has(before: Side, after: Side) -> Iterator[str]:
    """Yield which assets of one recipe another does not have."""
    if before.recipe is None or after.recipe is None or before.asset or after.asset:
        return
    for side, other in ((before, after), (after, before)):
        for name in side.records:
            if name not in other.records:
                yield f"{name}: only {side.name} has it"


def _without(record: Row, areas: Sequence[str]) -> Row:
    parts = {key: value for key, value in record["parts"].items() if key not in areas}
    return {**record, "parts": parts}


def _is_behind(change: Change, prints: Mapping[str, set[str | None]]) -> bool:
    """Return whether an input differs of which both records are here, which tell the cause."""
    known = change.area == "inputs" and ABSENT not in (change.old, change.new)
    return known and len(prints.get(change.what, ())) == 2


def _last(behind: Sequence[str], because: Mapping[str, Sequence[str]]) -> list[str]:
    """Return those inputs that no other of them is made from: the lines lead back to the cause."""

    def reaches(name: str, target: str) -> bool:
        nexts = because.get(name, ())
        return target in nexts or any(reaches(each, target) for each in nexts)

    return [
        each
        for each in behind
        if not any(reaches(other, each) for other in behind if other != each)
    ]


def _matched(before: Side, after: Side) -> Iterator[tuple[str, Row, Row]]:
    """Yield the records of both sides that are compared, those others are made from first."""
    heads = before.asset, after.asset
    if None in heads and len(before.records) == len(after.records) == 1:
        [a], [b] = before.records.values(), after.records.values()
        yield "model", a, b
        return
    for name, record in before.records.items():
        if name in after.records and (name not in heads or heads[0] == heads[1]):
            yield name, record, after.records[name]
    if heads[0] is not None and heads[1] is not None and heads[0] != heads[1]:
        yield joined_title(heads[0], heads[1]), before.records[heads[0]], after.records[heads[1]]


def other_jobs(a: Row, b: Row) -> bool:
    """Return whether two results are of other kinds: no value of one is a value of the other."""
    jobs = [record["parts"].get("module") for record in (a, b)]
    return None not in jobs and jobs[0] != jobs[1]


def joined_title(old: str, new: str) -> str:
    """Return the one name of two that are equal, else both."""
    return old if old == new else f"{old} → {new}"


def joined(of_assets: Iterable[tuple[str, list[Change]]]) -> list[Found]:
    """Return the changes, each once, with all assets that have it."""
    assets: dict[str, list[str]] = {}
    first: dict[str, Change] = {}
    for asset, found in of_assets:
        for change in found:
            key = f"{change.key}\n{change}\n{change.old}\n{change.new}"
            first.setdefault(key, change)
            assets.setdefault(key, []).append(asset)
    return [Found(change=change, assets=assets[key]) for key, change in first.items()]
