"""Compare what a replay has made with what its run made: figures, checkpoints, the final model."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.layout import STATE, Checkpoint, list_checkpoints
from olmo_core.config.train import load_train_config
from olmo_core.errors import InputError, listed
from olmo_core.lineage.replay import LOSS, Stretch
from olmo_core.run.folder import RunFolder, read_metrics

# Figures of a step that its weights, its batch and the code decide; speed and time are not of them.
COMPARED = (
    LOSS,
    "train/ZLoss",
    "train/masked_instances",
    "optim/total_grad_norm",
    "optim/step_skipped",
    "optim/learning_rate_group0",
)
# Where a run stands elsewhere (other ranks, threads, machine, torch), sums are rounded in another
# order, and each step hands its rounding on to the next. Relative, of 20 steps or so: float32, and
# bfloat16 products, whose own rounding is 2**-8.
TOLERANCE, TOLERANCE_BF16 = 1e-3, 2e-2
_INDEX = f"{STATE}/.metadata"  # names the place that it was written to


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure, a file or a checkpoint that is another one in the replay."""

    what: str  # train/CrossEntropyLoss, or the name of a file
    step: int
    before: float | str | None
    after: float | str | None

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} {self.before!r} → {self.after!r}"

    @property
    def of_file(self) -> bool:
        """Return whether it is a file that differs: `before` and `after` are SHA-256."""
        return isinstance(self.before, str) or isinstance(self.after, str)

    @property
    def relative(self) -> float:
        """Return the difference as a share of the earlier figure.

        It is infinity where one of the two is not there, or no number.
        """
        if not isinstance(self.before, float | int) or not isinstance(self.after, float | int):
            return float("inf")
        difference = abs(self.after - self.before)
        relative = difference / abs(self.before) if self.before else difference
        return float("inf") if math.isnan(relative) else relative


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What the comparison of a replay with its run has found.

    `elsewhere` says what of the place differs (ranks, threads, host, torch), one line each; only
    where nothing does, equal code gives equal bits.
    """

    start: int
    end: int
    steps: int  # of which figures were compared
    checkpoints: tuple[int, ...]  # whose weights and moments were compared
    model: bool  # whether the final model was
    differences: tuple[Difference, ...]
    elsewhere: tuple[str, ...]
    tolerance: float

    @property
    def bitwise(self) -> bool:
        """Return whether every bit that was compared is equal."""
        return not self.differences

    @property
    def within_tolerance(self) -> bool:
        """Return whether figures differ by no more than the tolerance, and files by rounding alone.

        The bits of files tell nothing of rounding: those after a step made elsewhere may differ.
        """
        rounded = bool(self.elsewhere) and self.start < self.end
        return all(
            rounded if each.of_file else each.relative <= self.tolerance
            for each in self.differences
        )


def compare(stretch: Stretch, folder: Path) -> Replay:
    """Compare a finished replay with its run.

    Raises:
        InputError: there is nothing that both have.
    """
    run, replay = stretch.run, RunFolder(folder)
    steps, differences = _compared_figures(stretch, replay)
    elsewhere = tuple(_elsewhere(run, replay))
    checkpoints, of_weights = _compared_checkpoints(stretch, replay, elsewhere=bool(elsewhere))
    model = _ends_with(run, stretch.end)
    if model:
        differences += _compared_model(run, replay, stretch.end)
    if not (steps or checkpoints or model):
        raise InputError(
            f"{run.metrics}: no figure of steps {stretch.start + 1} to {stretch.end}, and no "
            f"checkpoint of them: give more steps"
        )
    config, _ = load_train_config(folder / "config.yaml")
    return Replay(
        start=stretch.start,
        end=stretch.end,
        steps=steps,
        checkpoints=tuple(checkpoints),
        model=model,
        differences=(*differences, *of_weights),
        elsewhere=elsewhere,
        tolerance=TOLERANCE_BF16 if config.precision == "amp_bf16" else TOLERANCE,
    )


def _figures(run: RunFolder, stretch: Stretch) -> dict[int, dict[str, Any]]:
    return {
        row["step"]: {key: row[key] for key in COMPARED if key in row}
        for row in read_metrics(run.metrics)
        if stretch.start < row.get("step", 0) <= stretch.end and LOSS in row
    }


def _compared_figures(stretch: Stretch, replay: RunFolder) -> tuple[int, list[Difference]]:
    before, after = _figures(stretch.run, stretch), _figures(replay, stretch)
    steps = sorted(before.keys() & after.keys())
    different = [
        Difference(what=key, step=step, before=before[step].get(key), after=after[step].get(key))
        for step in steps
        for key in COMPARED
        if not _equal(before[step].get(key), after[step].get(key))
    ]
    return len(steps), different


def _equal(before: float | None, after: float | None) -> bool:
    """Return whether two figures are equal; one that is no number equals another such."""
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before):
        return math.isnan(after)
    return before == after


def _compared_checkpoints(
    stretch: Stretch, replay: RunFolder, *, elsewhere: bool
) -> tuple[list[int], list[Difference]]:
    """Compare the files of checkpoints that both have written.

    Elsewhere other ranks may have written the same tensors into other files: those are passed over.
    """
    own = {one.step: one for one in list_checkpoints(replay.path) if one.step > stretch.start}
    compared: list[int] = []
    different: list[Difference] = []
    for one in list_checkpoints(stretch.run.path):
        if one.step not in own:
            continue
        before, after = _state_files(one), _state_files(own[one.step])
        if before.keys() != after.keys() and elsewhere:
            continue
        compared.append(one.step)
        different += _different_files(before, after, one.step)
    return compared, different


def _different_files(
    before: Mapping[str, str], after: Mapping[str, str], step: int
) -> list[Difference]:
    """Return the files with another digest, or that one side alone has."""
    return [
        Difference(what=name, step=step, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _state_files(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the digests of the files that hold weights and moments."""
    files = checkpoint.read_manifest()
    return {
        name: entry["sha256"]
        for name, entry in files.items()
        if name.startswith(f"{STATE}/") and name != _INDEX
    }


def _ends_with(run: RunFolder, step: int) -> bool:
    return run.finished and run.read_result()["report"]["data"]["step"] == step


def _compared_model(run: RunFolder, replay: RunFolder, step: int) -> list[Difference]:
    before, after = (
        {name: entry["sha256"] for name, entry in one.read_result()["files"].items()}
        for one in (run, replay)
    )
    return _different_files(before, after, step)


def _elsewhere(run: RunFolder, replay: RunFolder) -> Iterator[str]:
    """Yield what differs between the places of two runs: `ranks 1 → 2`."""
    before, after = (_place(one.read(one.launch) or {}) for one in (run, replay))
    for key, value in before.items():
        if value != after[key]:
            yield f"{key} {value} → {after[key]}"


def _place(launch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a launch decides in which order sums are made."""
    run = launch.get("run", {})
    return {
        "nodes": run.get("nodes"),
        "ranks per node": run.get("processes_per_node"),
        "threads": run.get("threads"),
        "host": launch.get("host"),
        "torch": launch.get("versions", {}).get("torch"),
    }


def described(replay: Replay) -> str:
    """Return in one sentence what was compared, and what was found."""
    if replay.start == replay.end:
        compared = [f"the model of step {replay.end}, written anew"]
    else:
        compared = [f"steps {replay.start + 1} to {replay.end}: {replay.steps} with figures"]
        if replay.checkpoints:
            compared.append(f"weights and moments of {listed(map(str, replay.checkpoints))}")
        if replay.model:
            compared.append("the final model")
    if replay.bitwise:
        return f"{', '.join(compared)}; every bit is equal"
    figures = [each.relative for each in replay.differences if not each.of_file]
    files = sorted({each.what for each in replay.differences if each.of_file})
    relative = f"; the largest relative difference is {max(figures):.2g}" if figures else ""
    relative += f"; other bits in {listed(files)}" if files else ""
    if replay.elsewhere and replay.within_tolerance:
        return f"{', '.join(compared)}; equal within {replay.tolerance:g}{relative}"
    more = len(replay.differences) - 1
    first = f"{replay.differences[0]}{f' and {more} more' if more else ''}"
    return f"{', '.join(compared)}; different: {first}{relative}"
