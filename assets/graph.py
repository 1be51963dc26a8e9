"""The graph of one recipe: its nodes in order, and the fingerprint that each would have now."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from assets.fingerprint import Fingerprint, fingerprint
from assets.node import Finished, Node, Verdict
from assets.paths import versions
from assets.recipe import Recipe
from assets.reuse import located, runs_of
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.run.accepted import Acceptance
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The main line of one recipe; `nodes` come in an order in which they can be made."""

    recipe: Recipe
    nodes: Mapping[str, Node]
    acceptances: Mapping[str, Acceptance] = field(default_factory=dict[str, Acceptance])

    @functools.cached_property
    def fingerprints(self) -> Mapping[str, Fingerprint]:
        """The fingerprint of every asset as recipe, code and packages stand; starts nothing.

        An accepted fingerprint is replaced by the older one, for its descendants too.
        """
        known: dict[str, Fingerprint] = {}
        for name, node in self.nodes.items():
            known[name] = fingerprint(
                module=node.module,
                config=node.identity(),
                packages=node.packages,
                inputs={input_name: known[input_name] for input_name in node.inputs},
            ).resolve(self.acceptances)
        return known

    def looked_at_once(self) -> "Graph":
        """Return this graph, which looks but once at files that bear identity: as they are now."""
        nodes = {
            name: replace(node, further_identity=functools.cache(node.further_identity))
            for name, node in self.nodes.items()
        }
        return replace(self, nodes=nodes)

    def folder(self, root: Path, name: str) -> Path:
        """Return the folder of all versions of an asset."""
        return root / self.recipe.name / name

    def finished(self, root: Path, name: str) -> RunFolder | None:
        """Return the finished run of the asset as it would be made now; None if it is to be made.

        Of several runs of one fingerprint (a forced repeat) in the recipe's own folder the newest,
        else what another recipe or a shared root has. What it read must be what its inputs' newest
        runs in the recipe's own folder hold, where there are any; equal bits made twice are equal
        inputs.
        """
        finished = (run for run in self.runs(root, name) if run.finished)
        return next((run for run in finished if self._is_current(root, name, run)), None)

    def _is_current(self, root: Path, name: str, run: RunFolder) -> bool:
        read = run.read_result()["inputs"]
        made_from = self.fingerprints[name].parts["inputs"]
        for input_name in self.nodes[name].inputs:
            if made_from[input_name] != self.fingerprints[input_name].value:
                continue  # accepted, with another input than there is now
            own = versions(self.folder(root, input_name), self.fingerprints[input_name].version)
            newest = next((run for run in reversed(own) if run.finished), None)
            if newest is not None and newest.read_result()["digest"] != read[input_name]["digest"]:
                return False
        return True

    def unfinished(self, root: Path, name: str) -> list[RunFolder]:
        """Return run folders of the asset, as it would be made now, whose job has left no result.

        The recipe's own, then those that another recipe has begun.
        """
        return [run for run in self.runs(root, name) if not run.finished]

    def runs(self, root: Path, name: str) -> Iterator[RunFolder]:
        """Yield the run folders of the asset as it stands now, the one that counts most first."""
        return runs_of(self.folder(root, name), root, self.fingerprints[name])

    def finished_asset(self, root: Path, name: str) -> Finished | None:
        """Return a finished asset with its inputs, as the checks want it."""
        run = self.finished(root, name)
        if run is None:
            return None
        result = run.read_result()
        inputs = {
            key: RunFolder(located(value, run, root)) for key, value in result["inputs"].items()
        }
        return Finished(node=self.nodes[name], folder=run, result=result, inputs=inputs)

    def verdicts(self, root: Path, name: str) -> dict[str, Verdict]:
        """Return what each check of a finished asset finds, by the check's name."""
        finished = self.finished_asset(root, name)
        if finished is None:
            return {}
        return {check.name: check.evaluate(finished) for check in self.nodes[name].checks}

    def failed_check(self, root: Path, name: str) -> str | None:
        """Return which blocking check of a finished asset fails, and why; None if none does."""
        finished = self.finished_asset(root, name)
        for check in self.nodes[name].checks:
            if check.blocking and finished is not None:
                verdict = check.evaluate(finished)
                if not verdict.passed:
                    return f"check {check.name}: {verdict.description}"
        return None

    def select(self, names: Iterable[str]) -> list[str]:
        """Return the named assets with all that they are made from, in order.

        Raises:
            ConfigError: there is no such asset.
        """
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in self.nodes:
                raise ConfigError(
                    f"recipe {self.recipe.name} has no asset {name!r}; {nearest(name, self.nodes)}"
                )
            if name not in wanted:
                wanted.add(name)
                waiting.extend(self.nodes[name].inputs)
        return [name for name in self.nodes if name in wanted]
