"""`olmo accept`: declare that what makes a result stale changes nothing that matters."""

import datetime
import getpass
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assets.assemble import build_graph
from assets.execution.hold import results_held
from assets.fingerprint import differences
from assets.graph import Graph
from assets.launcher import Launcher
from assets.paths import root, shared_roots
from assets.recipe import load_recipe
from assets.reuse import every_run
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.run.accepted import Acceptance, remove_acceptance, write_acceptance
from olmo_core.run.folder import RunFolder
from pipelines.launchers.router import site_launcher

ACCEPTED_UNNAMED = ("code", "packages")  # areas of a fingerprint


class CannotProve(ConfigError):
    """What makes an asset stale is nothing that a replay could show to be harmless."""


@dataclass(frozen=True, kw_only=True)
class Stale:
    """A run of an asset that does not count, and why: lines by the key of what differs."""

    run: RunFolder
    record: Mapping[str, Any]  # launch.json
    why: Mapping[str, str]

    @property
    def areas(self) -> set[str]:
        """Return what differs: config, code, packages, inputs."""
        return {key.partition(".")[0] for key in self.why}


def accept_differences(
    recipe: str, names: Sequence[str], *, because: str, config: Sequence[str]
) -> None:
    """Accept why assets are stale, all or none of those named, and say what was accepted.

    With a named asset go those that are made from it, if nothing but the same makes them stale.
    Unnamed, all assets whose code or packages alone differ.

    Raises:
        ConfigError: no reason is given, an asset is unknown or not stale, or its configuration
            differs in a key that is not in `config`; nothing was accepted.
    """
    if not because.strip():
        raise ConfigError("--because: missing; say why the results are equivalent")
    graph = build_graph(load_recipe(recipe))
    graph.select(names)
    with results_held(root()):
        keep(acceptances_of(graph, names, because=because.strip(), config=config))


def keep(acceptances: Iterable[Acceptance]) -> None:
    """Write acceptances below the root, and say what each accepts and on what proof."""
    for acceptance in acceptances:
        write_acceptance(root(), acceptance)
        print(f"{acceptance.asset}: accepted as {acceptance.old['fingerprint'][:12]}")
        for line in (*acceptance.differences, *acceptance.proof):
            print(f"  {line}")


def acceptances_of(
    graph: Graph,
    names: Sequence[str],
    *,
    because: str,
    config: Sequence[str],
    prove: Callable[[str, Stale], list[str]] | None = None,
) -> list[Acceptance]:
    """Return what `accept_differences` accepts, in the order of the graph.

    `prove` is asked for the proof of each; what it raises ends all, what it raises as
    `CannotProve` leaves an asset alone that was not named.
    """
    launcher = site_launcher()
    made: dict[str, Acceptance] = {}
    lines: set[str] = set()
    for name, node in graph.nodes.items():
        descends = not made.keys().isdisjoint(node.inputs)
        if names and name not in names and not descends:
            continue
        stale = find_stale(graph, root(), name, launcher)
        if name in names:
            _require_acceptable(graph, name, stale, config)
        if stale is None:
            continue
        follows = descends and lines.issuperset(stale.why.values())
        unnamed = not names and stale.areas.issubset(ACCEPTED_UNNAMED)
        if name not in names and not follows and not unnamed:
            if not names:
                print(f"{name}: left alone: {'; '.join(stale.why.values())}")
            continue
        proof: list[str] = []
        try:
            proof = prove(name, stale) if prove is not None else []
        except CannotProve as error:
            if name in names:
                raise
            print(f"{name}: left alone: {error}")
            continue
        made[name] = Acceptance(
            recipe=graph.recipe.name,
            asset=name,
            who=getpass.getuser(),
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            because=because,
            differences=[*stale.why.values()],
            old={key: stale.record[key] for key in ("fingerprint", "parts", "definitions")},
            new=graph.fingerprints[name].record(),
            proof=proof,
        )
        lines.update(stale.why.values())
        # What is made from it is compared with its old fingerprint from here on.
        known = {**graph.acceptances, made[name].new["fingerprint"]: made[name]}
        graph = replace(graph, acceptances=known)
    if not made:
        raise ConfigError(f"{graph.recipe.name}: no asset is stale by code or packages alone")
    return [*made.values()]


def find_stale(graph: Graph, root: Path, name: str, launcher: Launcher) -> Stale | None:
    """Return the run that differs least from what would be made now; None if nothing is stale.

    An engine is asked only about a job that could be it, or that makes the asset as it is now.
    """
    if graph.finished(root, name) is not None:
        return None
    now = graph.fingerprints[name].record()
    found: list[Stale] = []
    for run in every_run(graph.folder(root, name), root, *shared_roots(root)):
        record = run.read(run.launch) or {}
        if record.get("fingerprint") != now["fingerprint"] and "definitions" in record:
            found.append(Stale(run=run, record=record, why=differences(record, now)))
    found.sort(key=lambda stale: ("config" in stale.areas, len(stale.why)))
    for stale in found:
        run = stale.run
        if run.finished or run.last_checkpoint() or launcher.state(run).alive:
            begun = graph.unfinished(root, name)
            return None if any(launcher.state(run).alive for run in begun) else stale
    return None


def revoke_acceptances(recipe: str, names: Sequence[str]) -> None:
    """Take back what was accepted of these assets, or of all; no job is ended.

    Raises:
        ConfigError: nothing was.
    """
    graph = build_graph(load_recipe(recipe))
    graph.select(names)
    revoked = [
        acceptance
        for acceptance in graph.acceptances.values()
        if acceptance.recipe == recipe and (not names or acceptance.asset in names)
    ]
    if not revoked:
        raise ConfigError(
            f"{recipe}: nothing was accepted{' of ' if names else ''}{', '.join(names)}"
        )
    for acceptance in revoked:
        remove_acceptance(root(), acceptance)
        print(f"{acceptance.asset}: no more accepted as {acceptance.old['fingerprint'][:12]}")


def _require_acceptable(
    graph: Graph, name: str, stale: Stale | None, config: Sequence[str]
) -> None:
    accepted = graph.fingerprints[name].accepted
    if accepted is not None:
        raise ConfigError(f"{name}: {accepted}; --revoke takes it back")
    if stale is None:
        raise ConfigError(f"{name}: nothing to accept: it is current, at work, or never built")
    keys = [key.removeprefix("config.") for key in stale.why if key.startswith("config.")]
    unnamed = [key for key in keys if key not in config]
    if unnamed:
        flags = " ".join(f"--config {key}" for key in unnamed)
        raise ConfigError(
            f"{name}: its configuration differs; accept that by name ({flags}), or change it back:"
            + "".join(f"\n  {line}" for line in stale.why.values())
        )
    if unknown := [key for key in config if key not in keys]:
        raise ConfigError(
            f"--config {unknown[0]}: {name} does not differ there; {nearest(unknown[0], keys)}"
        )
