"""What weights were made of: documents and tokens by source, and what other weights lack of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.models import Trained, souped, trained_by
from assets.lineage.runs import Lineage
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.coverage import Coverage, SourceCount, count_sources
from olmo_core.lineage.run import TrainingRun

_NAME = re.compile(r"(?P<asset>\w+)(?:/(?P<version>[0-9a-f.]+))?(?:@step(?P<step>\d{1,18}))?")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A checkpoint, a run's end or a soup, and all runs that have made it."""

    label: str
    trained: Sequence[Trained]  # a run each, parents first

    @property
    def masked_instances(self) -> int | None:
        """Return how many instances of their steps counted in no loss; None: not all is logged."""
        found = [
            each.run.log.masked_instances(step)
            for each in self.trained
            for step in range(each.run.first_step, each.up_to + 1)
        ]
        known = [count for count in found if count is not None]
        return sum(known) if len(known) == len(found) else None

    @property
    def unlogged_steps(self) -> int:
        """Return how many steps may have been skipped without a line that says it."""
        return sum(
            each.run.log.is_skipped(step) is None
            for each in self.trained
            for step in range(each.run.first_step, each.up_to + 1)
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointAnswer:
    """What weights were trained on; of two, what the second were on and the first were not."""

    first: Weights
    second: Weights | None
    first_sources: Sequence[SourceCount]
    second_sources: Sequence[SourceCount]


def trace_checkpoint(lineage: Lineage, first: str, second: str | None = None) -> CheckpointAnswer:
    """Count the documents and tokens of each source that weights were trained on.

    Args:
        lineage: The recipe's.
        first: `stage1@step300`, `stage1` (its end), `stage1/<version>@step300`, or `soup`.
        second: Others to compare with.

    Raises:
        ConfigError: no such weights.
        InputError: what they were trained on cannot be computed, or the two are of other tokens.
    """
    weights = [weights_of(lineage, name) for name in (first, second) if name is not None]
    indexes = lineage.indexes_of([part.run.folder for each in weights for part in each.trained])
    if len(indexes) != 1:
        raise InputError(
            f"{', '.join(each.label for each in weights)}: trained on tokens of different corpora "
            f"(documents/{', documents/'.join(path.name for path in indexes)}), whose documents "
            "cannot be counted together"
        )
    kept: dict[tuple[Path, int], Coverage] = {}
    covered = [
        [kept.setdefault(_key(part), _covered(part, kept)) for part in each.trained]
        for each in weights
    ]
    return CheckpointAnswer(
        first=weights[0],
        second=weights[1] if second is not None else None,
        first_sources=count_sources(indexes[0], covered[0]),
        second_sources=[]
        if second is None
        else count_sources(indexes[0], covered[1], before=covered[0]),
    )


def _key(part: Trained) -> tuple[Path, int]:
    return part.run.folder.path, part.up_to


def _covered(part: Trained, kept: dict[tuple[Path, int], Coverage]) -> Coverage:
    return kept.get(_key(part)) or Coverage(part.run, part.up_to)


def parse_name(name: str) -> tuple[str, str | None, int | None]:
    """Return asset, version and step of weights as a person names them.

    Raises:
        ConfigError: they are named otherwise.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{name!r}: expected weights as stage1@step300, stage1, stage1/<version>, or soup"
        )
    step = match["step"]
    return match["asset"], match["version"], None if step is None else int(step)


def weights_of(lineage: Lineage, name: str) -> Weights:
    """Return weights by their name: `stage1@step300`, `stage1`, `stage1/<version>`, or `soup`.

    Raises:
        ConfigError: no such weights.
        InputError: what they were trained on cannot be computed.
    """
    asset, version, step = parse_name(name)
    if asset == "soup" and "soup" in lineage.graph.nodes:
        if step is not None:
            raise ConfigError(f"{name}: a soup has no steps; expected soup")
        return _soup(lineage, version)
    run = lineage.run(asset, version)
    up_to = _step_of(run, step)
    trained = [*trained_by(lineage, run.folder.path, up_to)][::-1]
    return Weights(label=f"{run.label}@step{up_to}", trained=trained)


def _step_of(run: TrainingRun, step: int | None) -> int:
    if step is None:
        return run.last_step
    run.require_taken(step)
    return step


def _soup(lineage: Lineage, version: str | None) -> Weights:
    soup = lineage.chosen("soup", version)
    if not soup.finished:
        raise InputError(f"{soup.path}: the soup has not been made")
    longest: dict[Path, Trained] = {}
    for _, path, step, weight in souped(lineage, soup):
        for part in trained_by(lineage, path, step) if weight else ():
            before = longest.get(part.run.folder.path)
            if before is None or before.up_to < part.up_to:
                longest[part.run.folder.path] = part
    order = lineage.training
    trained = sorted(longest.values(), key=lambda part: order.index(part.run.name))
    return Weights(label=f"soup/{soup.path.name}", trained=trained)
