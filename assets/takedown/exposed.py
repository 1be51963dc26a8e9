"""What was made from documents that must leave: runs by step, checkpoints, soups, revisions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assets.takedown.affected import Affected, listed, of_run
from assets.takedown.places import Spans
from assets.takedown.records import Record
from olmo_core.checkpoint.layout import list_checkpoints
from olmo_core.errors import InputError
from olmo_core.lineage.run import TrainingRun, open_run
from olmo_core.lineage.visits import Visit, steps_of_document

TRAINS = "olmo_core.train"


@dataclass(kw_only=True)
class Exposed:
    """What training runs have read of documents, and what was made of those runs."""

    records: Mapping[Path, Record]
    spans: Callable[[Record], Spans]  # the documents in the token files that a run reads
    # Of what has seen any, the step since when; None: that is not known, or it takes no steps.
    _first: dict[Path, int | None] = field(default_factory=dict[Path, int | None])

    def rows(self, record: Record) -> Iterator[Affected]:
        """Yield what of a run folder is affected; inputs must have been asked for before."""
        if record.module == TRAINS:
            yield from self._training(record)
        elif saw := [*self._saw(record)]:
            self._first[record.run.path] = None
            yield self._made(record, saw)

    def _saw(self, record: Record) -> Iterator[Record]:
        """Yield the inputs that have seen any: of a run's checkpoint only if it was by then."""
        for name, path in record.inputs.items():
            if path in self._first:
                first, step = self._first[path], record.steps.get(name)
                if first is None or step is None or step >= first:
                    yield self.records[path]

    def _training(self, record: Record) -> Iterator[Affected]:
        parents = [path for path in record.inputs.values() if path in self._first]
        spans = self.spans(record)
        try:
            run = opened(record) if spans else None
        except (InputError, KeyError, OSError, TypeError) as error:
            self._first[record.run.path] = None
            yield of_run("training", record, "saw", 0, f"may have read them; not traced: {error}")
            return
        visits = [] if run is None else [*self._visits(run, spans)]
        trained = sorted(visit.step for _, visit in visits if visit.trained)
        if run is not None and visits:
            steps = sorted({visit.step for _, visit in visits})
            names = {name for name, _ in visits}
            tokens = sum(visit.tokens for _, visit in visits if visit.trained)
            said = (
                f"read in {_steps(steps)}; trained on "
                f"{tokens:,} tokens of theirs in {len(trained)} visit{'s' * (len(trained) != 1)}"
            )
            figures = {"steps": len(steps), "first_step": steps[0], "last_step": steps[-1]}
            figures |= {"trained_tokens": tokens, "trained_visits": len(trained)}
            yield of_run("training", record, "saw", len(names), said, figures=figures)
        elif parents:
            said = f"read none itself; began from {self.records[parents[0]].name}, which has"
            yield of_run("training", record, "saw", 0, said)
        if parents:
            self._first[record.run.path] = 0
        elif trained:
            self._first[record.run.path] = trained[0]
        yield from self._checkpoints(record, {name for name, _ in visits})

    def _visits(self, run: TrainingRun, spans: Spans) -> Iterator[tuple[str, Visit]]:
        for name, rows in spans.items():
            for span in rows:
                yield from ((name, visit) for visit in steps_of_document(run, span).visits)

    def _checkpoints(self, record: Record, names: set[str]) -> Iterator[Affected]:
        first = self._first.get(record.run.path)
        if first is None:
            return
        kept = [each for each in list_checkpoints(record.run.path) if each.step >= first]
        if kept:
            steps = [each.path.name for each in kept]
            said = f"weights that were trained on them: {listed(steps, 6)}"
            yield of_run("checkpoints", record, "saw", len(names), said, within="checkpoints")
        config = yaml.safe_load(record.run.config.read_text(encoding="utf-8"))
        if remote := config.get("remote_save_folder"):
            yield Affected(
                group="checkpoints",
                place=str(remote),
                holds="saw",
                documents=len(names),
                what=f"the mirror of {record.name}, written while it trained",
                do="delete it there",
                record=record,
            )

    def _made(self, record: Record, saw: list[Record]) -> Affected:
        of = f"made of {listed([each.name for each in saw])}"
        if record.stage == "evals":
            return of_run("evaluations", record, "saw", 0, f"figures of models that saw them: {of}")
        revisions: list[Any] = [each["revision"] for each in record.data.get("models", ())]
        if record.asset == "export" and revisions:
            own = {each.asset for each in saw}
            models = record.data["models"]
            revisions = [each["revision"] for each in models if each["model"] in own]
            said = f"revisions {listed(revisions, 6)}; those that were pushed lie on the hub, too"
            return of_run("models", record, "saw", 0, said)
        return of_run("models", record, "saw", 0, of)


def _steps(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"its step {steps[0]}"
    return f"{len(steps):,} of its steps, {steps[0]} to {steps[-1]}"


def opened(record: Record) -> TrainingRun:
    """Open a training run by what it has recorded of its inputs.

    Raises:
        InputError: what it has read cannot be computed.
        KeyError: it was made by an earlier version.
    """
    config = yaml.safe_load(record.run.config.read_text(encoding="utf-8"))
    mix = Path(config["core"]["manifest"]).parents[1].name
    manifest = record.inputs[mix] / "manifest.json"
    return open_run(record.run.path, manifest=manifest, tokens=record.inputs["tokens"])
