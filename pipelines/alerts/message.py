"""What an alert says, and the two forms in which it is sent."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from olmo_core.errors import redacted

SCHEMA_VERSION = 1
MOST_CHARACTERS = 1500  # of what was seen: an error may be as long as a file

Kind = Literal[
    "check_failed", "loss_spike", "not_finite", "job_failed", "run_failed", "stalled", "test"
]
Form = Literal["json", "slack"]

TITLES: Mapping[Kind, str] = {
    "check_failed": "A check failed",
    "loss_spike": "Spike in training",
    "not_finite": "Not a number in training",
    "job_failed": "A job failed",
    "run_failed": "A Dagster run failed",
    "stalled": "A job makes no progress",
    "test": "Test of the alerts",
}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One event that somebody should hear of."""

    kind: Kind
    recipe: str
    asset: str
    partition: str | None = None
    run: str | None = None  # version of the run folder; of a Dagster run its id
    step: int | None = None
    seen: str
    look: str  # a folder, and a command that says more
    time: float  # Unix time at which it was seen

    @property
    def id(self) -> str:
        """Return what is equal for one event, however often it is sent."""
        content = json.dumps(asdict(replace(self, time=0.0)), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def text(self) -> str:
        """Return the alert as a person reads it."""
        where = f"{self.recipe}/{self.asset}" + (f" {self.partition}" if self.partition else "")
        facts = [where]
        if self.run is not None:
            facts.append(f"run {self.run}")
        if self.step is not None:
            facts.append(f"step {self.step:,}")
        return f"{TITLES[self.kind]}: {', '.join(facts)}\n{self.seen}\nSee {self.look}"


def alert(kind: Kind, *, seen: str, **fields: Any) -> Alert:
    """Return an alert; of what was seen, secrets in addresses are hidden and the rest is cut."""
    said = redacted(seen)
    if len(said) > MOST_CHARACTERS:
        said = f"{said[:MOST_CHARACTERS]} …"
    return Alert(kind=kind, seen=said, **fields)


def body(sent: Alert, form: Form) -> bytes:
    """Return the JSON that is posted: the fields of an alert, or Slack's for incoming webhooks."""
    if form == "slack":
        # Slack reads these three as the begin of a link, a mention or an entity.
        text = sent.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return json.dumps({"text": text}).encode()
    fields = {"schema_version": SCHEMA_VERSION, "id": sent.id, **asdict(sent), "text": sent.text}
    return json.dumps(fields).encode()
