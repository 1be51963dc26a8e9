"""All of our jobs in the namespace, looked at together: two lists an interval, however many."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assets.launcher import JobState
from pipelines.launchers.kubernetes.api import Api, KubernetesError
from pipelines.launchers.kubernetes.manifests import OURS
from pipelines.launchers.kubernetes.pod import CONTAINER
from pipelines.launchers.kubernetes.state import job_state

PATIENCE_SECONDS = 600.0  # with an API server that does not answer

# Which label of a pod names the job that it is of.
POD_LABEL = {
    "Job": "batch.kubernetes.io/job-name",
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
}


@dataclass(kw_only=True)
class Cluster:
    """The jobs of one kind (Job, JobSet, TrainJob) in a namespace."""

    api: Api
    kind: str
    poll_seconds: float
    patience_seconds: float = PATIENCE_SECONDS
    _seen: Mapping[str, JobState] = field(default_factory=dict[str, JobState], repr=False)
    _asked: float = field(default=-math.inf, repr=False)
    _answered: float = field(default=-math.inf, repr=False)
    _trouble: KubernetesError | None = field(default=None, repr=False)  # since it answered
    _gone: set[str] = field(default_factory=set[str], repr=False)  # names are never used again

    def state(self, name: str, *, may_come: bool = False) -> JobState:
        """Return the state of a job, at most `poll_seconds` old while the server answers.

        Args:
            name: The job's.
            may_come: It may not have been created yet; otherwise what is not there is gone.

        Raises:
            NotAnswering: the server has not answered for ten minutes, or not yet at all.
            KubernetesError: it has refused for as long.
        """
        found = self._look().get(name)
        if found is not None and self._trouble is not None:
            silent = time.monotonic() - self._answered
            note = f"{found.description}; {silent:.0f} s ago, since then: {self._trouble}"
            return replace(found, description=note)
        if found is not None:
            return found
        if self._trouble is not None:
            raise self._trouble
        # Not in the list: made since, perhaps by another process, or gone. One call tells.
        job = None if name in self._gone else self.api.get(self.kind, name)
        if job is not None:
            return job_state(job, [])
        if not may_come:
            self._gone.add(name)
        where = f"there is no {self.kind} {name} in namespace {self.api.namespace}"
        return JobState(alive=False, ended="deleted", description=where)

    def forget(self) -> None:
        """Ask anew next time: something has been changed."""
        self._asked = -math.inf

    def _look(self) -> Mapping[str, JobState]:
        """Return the last states, new ones if it is time; old ones if the server is silent."""
        now = time.monotonic()
        if now - self._asked >= self.poll_seconds:
            self._asked = now
            try:
                self._seen, self._trouble = self._states(), None
                self._answered = time.monotonic()
            except KubernetesError as error:
                self._trouble = error
        silent = time.monotonic() - self._answered
        if self._trouble is not None and silent > self.patience_seconds:
            raise self._trouble
        return self._seen

    def _states(self) -> dict[str, JobState]:
        """Return the state of each job now, by its name."""
        ours = ",".join(f"{label}={value}" for label, value in OURS.items())
        listed = self.api.list(self.kind, labelSelector=ours)
        jobs = {str(job["metadata"]["name"]): job for job in listed}
        pods: dict[str, list[Mapping[str, Any]]] = {name: [] for name in jobs}
        for pod in self.api.list("Pod", labelSelector=ours):
            name = (pod["metadata"].get("labels") or {}).get(POD_LABEL[self.kind], "")
            pods.setdefault(name, []).append(pod)
        states = {name: job_state(job, pods[name]) for name, job in jobs.items()}
        idle = [
            name
            for name, state in states.items()
            if state.alive and not pods[name] and not jobs[name]["spec"].get("suspend")
        ]
        warnings = self._warnings() if idle else {}
        return states | {name: job_state(jobs[name], [], warnings.get(name, "")) for name in idle}

    def _warnings(self) -> dict[str, str]:
        """Return why pods could not be made: a quota, a policy; the newest event of each job."""
        found: dict[str, str] = {}
        events = self.api.list("Event", fieldSelector="type=Warning,involvedObject.kind=Job")
        for event in sorted(events, key=_event_time):
            name = event["involvedObject"].get("name", "")
            found[name] = f"{event.get('reason')}: {event.get('message')}"
            # The Job of a JobSet or TrainJob has the latter's name, and an ending.
            found[name.removesuffix(f"-{CONTAINER}-0")] = found[name]
        return found


def _event_time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
