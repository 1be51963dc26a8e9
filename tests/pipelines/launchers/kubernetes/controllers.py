"""What Kubernetes' Job controller and JobSet's do when a pod has failed, as far as we rely on it.

Written from their sources (pkg/controller/job/pod_failure_policy.go of kubernetes, pkg/controllers/
failure_policy.go of jobset); the first of the matching rules decides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Spec = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PodEnd:
    """How a pod ended: the exit code of its container, and whether the cluster was behind it."""

    exit_code: int
    disrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class JobFailure:
    """The condition of a failed Job."""

    reason: str
    message: str


def job_failure(job: Spec, end: PodEnd, *, counted: int) -> tuple[JobFailure | None, int]:
    """Whether a pod's end fails its Job, and how many ends count now towards the backoff limit."""
    for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
        if not _matches(job, rule, end):
            continue
        if rule["action"] == "Ignore":
            return None, counted
        assert rule["action"] == "FailJob"
        what = f"Container node for pod lm/x failed with exit code {end.exit_code}"
        if "onPodConditions" in rule:
            what = "Pod lm/x has condition DisruptionTarget"
        message = f"{what} matching FailJob rule at index {index}"
        return JobFailure(reason="PodFailurePolicy", message=message), counted
    counted += 1
    if counted > job["backoffLimit"]:
        message = "Job has reached the specified backoff limit"
        return JobFailure(reason="BackoffLimitExceeded", message=message), counted
    return None, counted


def set_action(job_set: Spec, failure: JobFailure) -> str:
    """What a JobSet does about its failed Job."""
    for rule in job_set["failurePolicy"]["rules"]:
        reasons = rule.get("onJobFailureReasons") or [failure.reason]
        patterns = rule.get("onJobFailureMessagePatterns") or [""]
        if failure.reason in reasons and any(re.search(p, failure.message) for p in patterns):
            return rule["action"]
    return "RestartJobSet"


def _matches(job: Spec, rule: Spec, end: PodEnd) -> bool:
    if "onPodConditions" in rule:
        assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
        return end.disrupted
    wanted = rule["onExitCodes"]
    assert wanted["operator"] == "In"
    names = [container["name"] for container in job["template"]["spec"]["containers"]]
    assert wanted["containerName"] in names
    return end.exit_code in wanted["values"]
