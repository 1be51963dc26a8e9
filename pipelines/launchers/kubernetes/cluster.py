"""What the cluster says of our jobs: waiting and for what, running and where, ended and how.

All of those in the namespace are looked at together: two lists an interval, however many.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from assets.launcher import EngineError, JobState
from olmo_core.errors import ExitCode
from pipelines.launchers.kubernetes.api import Api, Object
from pipelines.launchers.kubernetes.manifests import CONTAINER, OURS

INDEX = "batch.kubernetes.io/job-completion-index"
COMPLETE = ("Complete", "Completed")  # a Job's and a TrainJob's word, a JobSet's
FOLLOWED = (128 + 15, ExitCode.REQUEUE)  # what pods say that ended because the job did
MESSAGE_LENGTH = 300
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
    _trouble: EngineError | None = field(default=None, repr=False)  # since it answered
    _gone: set[str] = field(default_factory=set[str], repr=False)  # names are never used again

    def state(self, name: str, *, may_come: bool = False) -> JobState:
        """Return the state of a job, at most `poll_seconds` old while the server answers.

        Args:
            name: The job's.
            may_come: It may not have been created yet; otherwise what is not there is gone.

        Raises:
            EngineUnavailable: the server has not answered for ten minutes, or not yet at all.
            EngineError: it has refused for as long.
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
            except EngineError as error:
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
        pods: dict[str, list[Object]] = {name: [] for name in jobs}
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
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        for event in events:
            name = event["involvedObject"].get("name", "")
            found[name] = f"{event.get('reason')}: {event.get('message')}"
            # The Job of a JobSet or TrainJob has the latter's name, and an ending.
            found[name.removesuffix(f"-{CONTAINER}-0")] = found[name]
        return found


def job_state(job: Object, pods: Sequence[Object], warning: str = "") -> JobState:
    """Return the state of a Job, JobSet or TrainJob, of which these pods are there.

    `warning` is the last event that the cluster has noted against it.
    """
    if (ended := _condition(job, *COMPLETE, "Failed")) is not None:
        return _ended(ended, pods)
    if job["metadata"].get("deletionTimestamp"):
        return JobState(alive=True, description="being deleted")
    if (ending := _condition(job, "FailureTarget")) is not None:
        return JobState(alive=True, description=f"ending: {_said(ending)}")
    if job["spec"].get("suspend"):
        queue = (job["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name")
        by = f"in Kueue's queue {queue}" if queue else "suspended"
        return JobState(alive=True, queued=True, description=f"pending: {by}")
    return _at_work(pods, warning)


def _at_work(pods: Sequence[Object], warning: str) -> JobState:
    current = [pod for pod in pods if _phase(pod) in ("Pending", "Running")]
    running = [pod for pod in current if _phase(pod) == "Running" and not _waits_for(pod)]
    if current and len(running) == len(current):
        nodes = sorted({str(pod["spec"].get("nodeName")) for pod in running})
        return JobState(alive=True, description=f"running on {', '.join(nodes)}")
    if not current:
        description = f"pending: {warning or 'its pods have not been made yet'}"
        return JobState(alive=True, queued=True, description=description)
    waiting = min((pod for pod in current if pod not in running), key=_index)
    reason = f"pending: pod {_index(waiting)}: {_waits_for(waiting) or 'not yet scheduled'}"
    if running:
        reason = f"{len(running)} of {len(current)} pods run; {reason}"
    return JobState(alive=True, queued=not running, description=reason)


def _waits_for(pod: Object) -> str:
    """Return why a pod does not run yet; empty if it does."""
    for condition in _listed(pod, "conditions"):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _said(condition)
    for container in _listed(pod, "containerStatuses"):
        if waiting := (container.get("state") or {}).get("waiting"):
            return _said(waiting)
    return "" if _phase(pod) == "Running" else "not started yet"


def _ended(condition: Object, pods: Sequence[Object]) -> JobState:
    if condition["type"] in COMPLETE:
        return JobState(alive=False, exit_code=0, ended="Complete")
    failed = [(pod, end) for pod in pods if (end := _termination(pod)) and end["exitCode"] != 0]
    reason = str(condition.get("reason") or "Failed")
    if not failed:
        return JobState(alive=False, ended=reason, description=_said(condition))
    # The one that began it: not those that were told to end, rather the first node's.
    pod, end = min(
        failed,
        key=lambda each: (
            each[1].get("reason") != "OOMKilled",
            each[1]["exitCode"] in FOLLOWED,
            _index(each[0]),
        ),
    )
    code = int(end["exitCode"])
    where = f"pod {_index(pod)} on {pod['spec'].get('nodeName')}: {end.get('reason')}"
    return JobState(
        alive=False,
        exit_code=128 - code if code > 128 else code,  # a shell's way to say a signal
        ended="OOMKilled" if end.get("reason") == "OOMKilled" else reason,
        description=f"{where}, exit code {code}; {_said(condition)}",
    )


def _termination(pod: Object) -> Object | None:
    for container in _listed(pod, "containerStatuses"):
        for state in ("state", "lastState"):
            if ended := (container.get(state) or {}).get("terminated"):
                return ended
    return None


def _condition(job: Object, *kinds: str) -> Object | None:
    """Return the condition of one of these kinds that holds, if one does."""
    holding = (each for each in _listed(job, "conditions") if each["status"] == "True")
    return next((each for each in holding if each["type"] in kinds), None)


def _listed(what: Object, key: str) -> Sequence[Object]:
    """Return a list of an object's status; empty where there is none yet."""
    return (what.get("status") or {}).get(key) or []


def _said(what: Object) -> str:
    """Return `Reason: message`, on one line."""
    words = f"{what.get('reason') or ''}: {what.get('message') or ''}".strip(": ")
    return " ".join(words.split())[:MESSAGE_LENGTH]


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def _index(pod: Object) -> int:
    metadata = pod["metadata"]
    named = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
    return int(named.get(INDEX, 0))
