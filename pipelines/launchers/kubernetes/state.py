"""What the objects of a job say of it: waiting and for what, running and where, ended and how."""

from collections.abc import Mapping, Sequence
from typing import Any

from assets.launcher import JobState
from olmo_core.errors import ExitCode

Object = Mapping[str, Any]

INDEX = "batch.kubernetes.io/job-completion-index"
COMPLETE = ("Complete", "Completed")  # a Job's and a TrainJob's word, a JobSet's
FOLLOWED = (128 + 15, ExitCode.REQUEUE)  # what pods say that ended because the job did
MESSAGE_LENGTH = 300


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


def _termination(pod: Object) -> Mapping[str, Any] | None:
    for container in _listed(pod, "containerStatuses"):
        for state in ("state", "lastState"):
            if ended := (container.get(state) or {}).get("terminated"):
                return ended
    return None


def _condition(job: Object, *kinds: str) -> Object | None:
    """Return the condition of one of these kinds that holds, if one does."""
    for condition in _listed(job, "conditions"):
        if condition["type"] in kinds and condition["status"] == "True":
            return condition
    return None


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
