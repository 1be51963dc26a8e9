"""Where a run stands: what a checkpoint holds beside its tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from olmo_core.train.spikes import History

SCHEMA_VERSION = 1


@dataclass(kw_only=True)
class State:
    """Counters of a run. No random numbers are drawn after the first weights, so none are kept.

    Attributes:
        step: Optimizer steps done.
        tokens: Tokens seen in them.
        origin: The step at which this run folder began (0 unless it continues another run).
        rewarmup_start: Moment of a fresh warm-up, see `olmo_core.optim.schedule`.
        parent: The checkpoint that this run started from, None for a run from first weights.
        joules: Energy that its steps took, as far as something measured it.
        history: The last losses and gradient norms, and the spikes.
    """

    step: int = 0
    tokens: int = 0
    origin: int = 0
    rewarmup_start: float | None = None
    parent: dict[str, Any] | None = None
    joules: float = 0.0
    history: History = field(default_factory=History)

    def to_dict(self, **more: Any) -> dict[str, Any]:
        """The content of `train.json`."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), **more}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "State":
        """Read `train.json`'s content; what else stands there is for other readers."""
        fields = {name: content[name] for name in ("step", "tokens", "origin", "rewarmup_start")}
        return cls(
            **fields,
            parent=content["parent"],
            joules=content.get("joules", 0.0),  # the first checkpoints of all lack these two
            history=History(**content.get("history", {})),
        )
