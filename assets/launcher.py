"""What the graph asks of whoever runs its jobs; the engines are under `pipelines/launchers`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One job to run: `python -m module <folder>/config.yaml`, under torchrun if it has ranks.

    `config` becomes the folder's config.yaml; `identity` goes into launch.json and, from there,
    into the result. Where it runs, and on how many nodes, is the site's to say: `stage` and the
    names in `identity` are what it goes by.
    """

    folder: RunFolder
    module: str
    stage: str  # corpus, train, evals, release
    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    distributed: bool = False  # started by torchrun
    shares_tasks: bool = False  # with workers on other nodes, where the site gives it some
    in_turn: bool = False  # one process may run it and others like it, one after another
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    forecast: Mapping[str, Any] | None = None  # what it will take, for launch.json

    @property
    def names(self) -> tuple[str, str]:
        """Return the recipe and the asset, as a job's name has them."""
        return str(self.identity["recipe"]), str(self.identity["asset"])


class Refused(RuntimeError):
    """A job is not started, or a result not used; the message says why and what to do."""


class EngineError(RuntimeError):
    """An engine refuses, or fails, what it was asked for; the message says which and why."""


class EngineUnavailable(EngineError):
    """The engine does not answer now; what it runs goes on, and asking again later is right."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What the engine says of a job at this moment."""

    alive: bool  # at work, or waiting in a queue
    queued: bool = False  # waiting in a queue; `description` says for what
    exit_code: int | None = None  # negative: the signal that ended it; None: not known here
    ended: str = ""  # the engine's own word for how it ended: NODE_FAIL, TIMEOUT, …
    description: str = ""  # pending in a queue and why, which process, …
    silence: str = ""  # the engine does not answer: since when, and what it said of itself


class Launcher(Protocol):
    """Start each job once, find it again, and end it when told."""

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        """Start the jobs that are neither finished nor at work, together where the engine can.

        Returns those that this call started. Two submissions of one folder, even from two
        processes, never both start its job.

        Raises:
            EngineUnavailable: the engine does not answer; the same call may be made again.
            EngineError: the engine refuses a job; those that it has accepted go on.
            Refused: the jobs would exceed their recipe's budget; none has been started.
        """
        ...

    def dry_run(self, launch: Launch) -> str:
        """Return what a submission would hand over: a command, a batch script or manifests."""
        ...

    def queues(self, launch: Launch) -> bool:
        """Return whether the job would wait in a queue, so that it may be submitted early."""
        ...

    def state(self, folder: RunFolder) -> JobState:
        """Return what the engine says of the folder's job.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        ...

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        """End every process of the jobs that are queued or at work in these folders, together.

        A job reaches a safe point first if it can.
        """
        ...


class Observer(Protocol):
    """Is told how the work on an asset goes; shows it on a terminal or in a log."""

    def started(self, asset: str, folder: RunFolder, how: str) -> None:
        """Hear that the work begins.

        `how` is `launched`, `following`, `finished before`, or `submitted` for a later step.
        """
        ...

    def state(self, asset: str, state: JobState) -> None:
        """Hear what the engine says anew of the job: why it waits, where it runs."""
        ...

    def progress(self, asset: str, status: Mapping[str, Any]) -> None:
        """Hear how far the job is; `status` is the content of the run's status.json."""
        ...

    def finished(self, asset: str, result: Mapping[str, Any]) -> None:
        """Hear that it has ended; `result` is the content of the run's result.json."""
        ...
