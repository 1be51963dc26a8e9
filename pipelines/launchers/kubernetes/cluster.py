"""All of our jobs in the namespace, looked at together: two lists an interval, however many."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assets.launcher import JobState
from pipelines.launchers.kubernetes.api import Api, KubernetesError
from pipelines.launchers.kubernetes.manifests import MANAGED_BY, OURS
from pipelines.launchers.kubernetes.pod import CONTAINER
from pipelines.launchers.kubernetes.state import job_state

PATIENCE_SECONDS = 600.0  # with an API server that does not answer

# Which label of a pod names the job that it is of.
POD_LABEL = {
    "Job": "batch.kubernetes.io/job-name",
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
    "TrainJob": "jobset.sigs.k8s.io/jobset-name",
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The jobs as they were at one moment, by their names."""

    jobs: Mapping[str, Mapping[str, Any]]
    pods: Mapping[str, list[Mapping[str, Any]]]
    warnings: Mapping[str, str]  # the last event against a job that has no pods


@dataclass(kw_only=True)
class Cluster:
    """The jobs of one kind (Job, JobSet, TrainJob) in a namespace."""

    api: Api
    kind: str
    poll_seconds: float
    patience_seconds: float = PATIENCE_SECONDS
    _seen: Snapshot | None = field(default=None, repr=False)
    _asked: float = field(default=-math.inf, repr=False)
    _answered: float = field(default=-math.inf, repr=False)
    _trouble: KubernetesError | None = field(default=None, repr=False)  # since it answered
    _gone: set[str] = field(default_factory=set[str], repr=False)  # names are never used again

    def state(self, name: str, *, may_come: bool = False) -> JobState:
        """The state of a job, at most `poll_seconds` old while the server answers.

        Args:
            name: The job's.
            may_come: It may not have been created yet; otherwise what is not there is gone.

        Raises:
            NotAnswering: the server has not answered for ten minutes, or not yet at all.
            KubernetesError: it has refused for as long.
        """
        seen = self._look()
        if name in seen.jobs:
            warning = seen.warnings.get(name, "")
            return self._with_trouble(job_state(seen.jobs[name], seen.pods.get(name, []), warning))
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

    def _look(self) -> Snapshot:
        """The last snapshot, a new one if it is time; an old one if the server does not answer."""
        now = time.monotonic()
        if now - self._asked >= self.poll_seconds:
            self._asked = now
            try:
                self._seen, self._trouble = self._snapshot(), None
                self._answered = time.monotonic()
            except KubernetesError as error:
                self._trouble = error
        silent = time.monotonic() - self._answered
        if self._trouble is not None and silent > self.patience_seconds:
            raise self._trouble
        assert self._seen is not None  # it has answered once, or patience would be over
        return self._seen

    def _snapshot(self) -> Snapshot:
        ours = f"{MANAGED_BY}={OURS}"
        listed = self.api.list(self.kind, labelSelector=ours)
        jobs = {str(job["metadata"]["name"]): job for job in listed}
        pods: dict[str, list[Mapping[str, Any]]] = {}
        for pod in self.api.list("Pod", labelSelector=ours):
            name = (pod["metadata"].get("labels") or {}).get(POD_LABEL[self.kind], "")
            pods.setdefault(name, []).append(pod)
        idle = {
            name
            for name, job in jobs.items()
            if name not in pods and job_state(job, []).alive and not job["spec"].get("suspend")
        }
        return Snapshot(jobs=jobs, pods=pods, warnings=self._warnings() if idle else {})

    def _warnings(self) -> dict[str, str]:
        """Why pods could not be made: a quota, a policy; the newest event of each job."""
        found: dict[str, str] = {}
        events = self.api.list("Event", fieldSelector="type=Warning,involvedObject.kind=Job")
        for event in sorted(events, key=_event_time):
            name = event["involvedObject"].get("name", "")
            found[name] = f"{event.get('reason')}: {event.get('message')}"
            # The Job of a JobSet or TrainJob has the latter's name, and an ending.
            found[name.removesuffix(f"-{CONTAINER}-0")] = found[name]
        return found

    def _with_trouble(self, state: JobState) -> JobState:
        if self._trouble is None:
            return state
        silent = time.monotonic() - self._answered
        note = f"{state.description}; {silent:.0f} s ago, since then: {self._trouble}"
        return replace(state, description=note)


def _event_time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
