"""`olmo gc`: what nobody needs, shown or taken away; and the pins that keep versions."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import progress

from assets.execution.hold import results_held
from assets.paths import root
from assets.reporting.texts import amount, visible
from olmo_core.errors import ConfigError, InputError
from pipelines.cli.terminal import print_json, table, terminal
from pipelines.collect.collection import Asked, Found, Outcome, collect, find, restore
from pipelines.collect.decisions import pin, pins, require_own, unpin
from pipelines.collect.mark import Recipes, read_recipes
from pipelines.collect.named import require_run
from pipelines.collect.records import Records, read_records
from pipelines.collect.sizes import Sizes
from pipelines.collect.trash import trashed
from pipelines.launchers.router import site_launcher

EXIT_LEFT = 1
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, kw_only=True)
class GcOptions:
    """What the command line says."""

    delete: bool
    older_than: str
    only: tuple[str, ...]
    dependents: bool
    released: bool
    keep_trash: bool
    verbose: bool
    as_json: bool


def run_gc(options: GcOptions) -> int:
    """Print what nobody needs, and take it away if asked; return the exit code.

    Raises:
        ConfigError: an option is malformed or makes no sense here, or there is no such version.
        Refused: the root is shared, what is named may not go, or a launch is not over.
        InputError: a record of a decision cannot be read.
    """
    asked = _asked(options)
    if not root().is_dir():
        raise ConfigError(f"{root()}: no such folder; nothing has been made there")
    require_own(root())
    try:
        recipes = read_recipes()
        if not options.delete:
            found = find(root(), recipes, site_launcher(), asked)
            _say_broken(found.records, recipes)
            _print_found(found, options)
            return 0
        console = terminal()
        bars = progress.Progress(
            progress.TextColumn("deleted"),
            progress.TextColumn("{task.completed:,.0f} files"),
            progress.TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        with bars:
            task = bars.add_task("deleted", total=None)
            outcome = collect(
                root(),
                recipes,
                site_launcher(),
                asked,
                keep_trash=options.keep_trash,
                deleted=lambda files: bars.advance(task, files),
            )
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise InputError(f"{error}; nothing was taken away") from None
    _say_broken(outcome.found.records, recipes)
    return _print_outcome(outcome, options)


def restore_trash() -> int:
    """Put back what is in the trash; return the exit code."""
    back, wrong = restore(root())
    for name in back:
        print(f"{name}: is back")
    for line in wrong:
        print(visible(line))
    if not back and not wrong:
        print("The trash holds nothing that can be put back.")
    return EXIT_LEFT if wrong else 0


def pin_version(name: str, because: str) -> None:
    """Keep a version until it is unpinned.

    Raises:
        ConfigError: there is no such version.
    """
    with results_held(root()):
        require_run(read_records(root()), name)
        pin(root(), name, because)
    print(f"{name}: pinned; it stays, and all that it was made from")


def unpin_version(name: str) -> None:
    """Take a pin back.

    Raises:
        ConfigError: there is no such version, or it is not pinned.
    """
    known = [each for decision in pins(root()) for each in decision.runs]
    if name not in known:
        raise ConfigError(f"{name[:200]!r}: is not pinned; pinned: {', '.join(known) or 'nothing'}")
    unpin(root(), name)
    print(f"{name}: no more pinned")


def print_pins() -> None:
    """Print what is pinned, by whom and why."""
    rows = [
        (name, decision.who, decision.when, decision.said)
        for decision in pins(root())
        for name in decision.runs
    ]
    if rows:
        terminal().print(
            table(("version", "pinned by", "when", "why"), rows, unwrapped=["version"])
        )
    else:
        print("Nothing is pinned.")


def _asked(options: GcOptions) -> Asked:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", options.older_than)
    if match is None:
        raise ConfigError(
            f"--older-than: found {options.older_than[:60]!r}; expected a number and one of "
            "s, m, h, d, w, as in 7d"
        )
    for flag, given in (("--dependents", options.dependents), ("--released", options.released)):
        if given and not options.only:
            raise ConfigError(f"{flag}: only with --only, which names versions")
    if options.keep_trash and not options.delete:
        raise ConfigError("--keep-trash: only with --delete, which moves something there")
    return Asked(
        older_than_seconds=float(match[1]) * UNIT_SECONDS[match[2]],
        only=options.only,
        dependents=options.dependents,
        released=options.released,
    )


def _say_broken(records: Records, recipes: Recipes) -> None:
    """Say of which recipes everything stays, since they cannot be read."""
    here = {name for run in records.runs.values() for name in (run.recipe, run.made_by)}
    for name, why in recipes.broken.items():
        if name in here:
            print(f"olmo: {name}: all of its own stays: {visible(why)}", file=sys.stderr)


def _print_found(found: Found, options: GcOptions) -> None:
    if options.as_json:
        print_json(_rows(found, {}))
        return
    _print_tables(found, options)
    in_trash = trashed(root())
    if in_trash:
        sizes = Sizes()
        for run in in_trash:
            sizes.add(run.name, run.path)
        held = _bytes(sum(sizes.freed.values()))
        print(
            f"In the trash: {_versions(len(in_trash))}, {held}; olmo gc --restore puts them back, "
            "--delete deletes them."
        )
    if found.goes or found.caches or found.strays or in_trash:
        print("Nothing was changed; olmo gc --delete, with the same options, takes it away.")


def _print_outcome(outcome: Outcome, options: GcOptions) -> int:
    found = outcome.found
    wrong = [*outcome.left.values(), *outcome.wrong]
    back = {name: "put back: something depends on it" for name in outcome.returned}
    if options.as_json:
        print_json(_rows(found, {**outcome.left, **back}))
        return EXIT_LEFT if wrong else 0
    _print_tables(found, options)
    for name, why in back.items():
        print(f"{name}: {why}")
    for line in wrong:
        print(f"left: {visible(line)}")
    gone = [name for name in found.goes if name not in outcome.left and name not in back]
    caches = [] if options.keep_trash else [*found.caches]
    freed = _bytes(sum(found.freed.get(name, 0) for name in (*gone, *caches)))
    if options.keep_trash:
        print(f"In the trash: {_versions(len(gone))}, {freed}; olmo gc --restore puts them back.")
    else:
        print(f"Deleted: {_versions(len(gone))}{_caches(caches)}, {freed}.")
    return EXIT_LEFT if wrong else 0


def _print_tables(found: Found, options: GcOptions) -> None:
    console, going = terminal(), {**found.goes, **found.caches}
    runs = found.records.runs
    for run in runs.values():
        if run.damage:
            print(f"stays, cannot be read: {visible(run.damage)}")
    if options.verbose:
        rows = [
            (name, "goes" if name in going else "stays", _bytes(found.freed.get(name, 0)), why)
            for name, why in sorted({**found.stays, **going}.items())
        ]
        rows = [
            (name, does, size if does == "goes" else "", visible(why))
            for name, does, size, why in rows
        ]
        columns = ("version", "", "frees", "why")
        console.print(table(columns, rows, right=["frees"], unwrapped=["version"]))
    elif found.goes or found.caches:
        groups: dict[str, list[str]] = defaultdict(list)
        for name in sorted((*found.goes, *found.caches)):
            groups["/".join(name.split("/")[:2])].append(name)
        rows = [
            (
                asset,
                str(len(names)),
                _bytes(sum(found.freed.get(name, 0) for name in names)),
                ", ".join(
                    f"{why} ({count})" if count > 1 else why
                    for why, count in Counter(_kind(going[name]) for name in names).items()
                ),
            )
            for asset, names in groups.items()
        ]
        columns = ("goes", "versions", "frees", "why")
        console.print(table(columns, rows, right=columns[1:3], unwrapped=["goes"]))
    for stray in found.strays if options.verbose else ():
        print(f"{stray.path}: {stray.why}")
    if options.delete:
        return
    strays = f", {len(found.strays)} stray files" if found.strays else ""
    held = f"{_caches([*found.caches])}{strays}, {_bytes(sum(found.freed.values()))}"
    may_go = f"{_versions(len(found.goes))}{held}"
    print(f"May go: {may_go}; {len(found.stays)} stay (--verbose: why).")


def _rows(found: Found, left: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, run in found.records.runs.items():
        stays = name not in found.goes or name in left
        why = left.get(name) or found.stays.get(name) or found.goes[name]
        rows.append(
            {
                "name": name,
                "path": str(run.folder.path),
                "stays": stays,
                "why": why,
                "frees_bytes": None if stays else found.freed.get(name, 0),
                "finished": run.finished,
                "damage": run.damage or None,
            }
        )
    rows += [
        {
            "name": name,
            "path": str(found.records.root / name),
            "stays": False,
            "why": why,
            "frees_bytes": found.freed.get(name, 0),
            "finished": None,
            "damage": None,
        }
        for name, why in found.caches.items()
    ]
    return rows


def _versions(count: int) -> str:
    return f"{count} version" + ("" if count == 1 else "s")


def _caches(names: Sequence[str]) -> str:
    return f", {len(names)} cache{'' if len(names) == 1 else 's'}" if names else ""


def _kind(why: str) -> str:
    return "superseded" if why.startswith("superseded") else why


def _bytes(size: int) -> str:
    return f"{amount(size)}B" if size >= 1000 else f"{size} B"
