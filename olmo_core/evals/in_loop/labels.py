"""Labels that official files name in `evaluators`, as `labels.yaml` lists them. Free of torch."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from olmo_core.config.evaluators import EvaluatorConfig
from olmo_core.config.load import build, load, nearest
from olmo_core.errors import ConfigError

FILE = Path(__file__).with_name("labels.yaml")
TASK = (
    "in_loop_"  # before a label: the name of its task, for lm-eval and in a recipe's `downstream`
)

Metric = Literal["acc", "len_norm", "f1", "ce_loss", "bpb"]


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a label asks, and which figure of it is logged; the file's head explains the keys."""

    task: str
    variant: str
    split: Literal["validation", "test"]
    metric: Metric
    requests: bool = False  # the prompts are in the data


@functools.cache
def labels() -> Mapping[str, Label]:
    """Return all labels of downstream evaluators, by name."""
    content = load(FILE)
    return {name: build(Label, content[name], where=name) for name in content}


def figure(label: str) -> str:
    """Return the name under which a label's figure is logged, OLMo's own."""
    metric = labels()[label].metric
    group = f"downstream_{metric}" if metric in ("ce_loss", "bpb") else "downstream"
    return f"eval/{group}/{label}_{metric}"


def require_known(
    evaluators: Sequence[EvaluatorConfig], missing: str, where: str = "evaluators"
) -> None:
    """Refuse labels that nobody knows, before a run is launched.

    Args:
        evaluators: Of the configuration.
        missing: `core.evaluators`; with `skip_missing` the run goes on without them.
        where: They stand.

    Raises:
        ConfigError: names each unknown label and the nearest known one.
    """
    unknown = [
        f"{each.label!r}: {nearest_label(each.label)}"
        for each in evaluators
        if each.type == "downstream" and each.label not in labels()
    ]
    if unknown and missing != "skip_missing":
        raise ConfigError(
            f"{where}: unknown labels of downstream tasks: {'; '.join(unknown)}. Or train "
            "without them: core.evaluators=skip_missing"
        )


def nearest_label(name: str) -> str:
    """Return which label an unknown one may have been meant to be."""
    said = nearest(name, labels())
    return said if said.startswith("did you mean") else f"{FILE} has the {len(labels())} known ones"
