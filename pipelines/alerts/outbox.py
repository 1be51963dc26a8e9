"""Messages until they are delivered: in order, each once, none lost while a webhook is down."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.alerts.message import Alert
from pipelines.alerts.webhook import NotDelivered

MOST_SECONDS = 10.0  # that a tick sends: other sensors wait for their turn
LEAST_PAUSE_SECONDS = 60.0  # after a failure; doubled with each further one
MOST_PAUSE_SECONDS = 900.0


@dataclass(kw_only=True)
class Outbox:
    """What is to be sent, oldest first, and when it is to be tried again."""

    waiting: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    failures: int = 0  # in a row
    not_before: float = 0.0  # Unix time

    def add(self, alerts: Iterable[Alert]) -> None:
        """Put alerts at the end."""
        self.waiting += [asdict(each) for each in alerts]

    def send(
        self, deliver: Callable[[Alert], None], *, now: float, clock: Callable[[], float]
    ) -> str:
        """Deliver what waits, for some seconds at most; return in words how that went.

        A message that fails stays, and nothing is sent until a pause is over. One that the webhook
        refuses is put behind the others, so that it holds up none of them.

        Args:
            deliver: Sends one; raises NotDelivered.
            now: Unix time.
            clock: Seconds; only their differences count.
        """
        sent, began = 0, clock()
        if now < self.not_before:
            return f"{self._count()} until the pause after a failure is over"
        while self.waiting and clock() - began < MOST_SECONDS:
            try:
                deliver(Alert(**self.waiting[0]))
            except NotDelivered as error:
                if error.refused:
                    self.waiting.append(self.waiting.pop(0))
                pause = LEAST_PAUSE_SECONDS * 2 ** min(self.failures, 10)
                self.failures += 1
                self.not_before = now + max(error.wait_seconds, min(pause, MOST_PAUSE_SECONDS))
                return f"{sent} sent; {self._count()}: {error}"
            self.waiting.pop(0)
            self.failures = 0
            sent += 1
        return f"{sent} sent" + (f"; {self._count()}" if self.waiting else "")

    def _count(self) -> str:
        many = len(self.waiting) != 1
        return f"{len(self.waiting)} message{'s' * many} wait{'' if many else 's'}"
