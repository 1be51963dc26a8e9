"""The Kubernetes engine: each job a Job, a JobSet or a TrainJob, found again by its name.

The name is made of the run folder's key and the attempt. The API server refuses a second object of
a name, so that a job whose submitter died in the act is adopted, and never started twice.

It has never met a live cluster; docs/kubernetes.md says what it was tried against.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.launcher import JobState, Launch
from olmo_core.environment import JOB_ID, PROCESSES
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder, is_locked, locked
from pipelines.launchers.kubernetes.api import Api, KubernetesError
from pipelines.launchers.kubernetes.cluster import POD_LABEL, Cluster
from pipelines.launchers.kubernetes.manifests import PodJob, as_yaml, manifests
from pipelines.launchers.kubernetes.state import job_state
from pipelines.launchers.one_by_one import OneByOne
from pipelines.launchers.submission import (
    Claim,
    LauncherClosed,
    claim,
    next_claim,
    record_after,
    record_before,
)
from pipelines.names import kubernetes_name
from pipelines.site.file import KubernetesSite, ResourceSpec, Site

CANCEL_GRACE_SECONDS = 8  # then pods are killed: a cancelled job is gone within ten seconds
CANCEL_PATIENCE_SECONDS = 10.0
CANCEL_POLL_SECONDS = 0.5

RECIPE, ASSET, KEY = "olmo/recipe", "olmo/asset", "olmo/key"  # labels
KINDS = {"jobset": "JobSet", "trainjob": "TrainJob"}  # of several pods: the site file's word


@dataclass(kw_only=True)
class KubernetesLauncher(OneByOne):
    """Runs each job as pods over one volume, which the submitter has mounted too."""

    site: Site
    _clusters: dict[str, Cluster] = field(default_factory=dict[str, Cluster], repr=False)  # by kind
    _closed: bool = field(default=False, repr=False)

    def submit(self, launch: Launch) -> bool:
        """Start the job unless it is finished or at work; True if this call started it.

        Raises:
            ConfigError: the site does not fit the launch.
            KubernetesError: the API server refused it, or does not answer; what it has taken all
                the same, the next submission finds.
        """
        folder = launch.folder
        self._require_volume(launch)
        folder.path.mkdir(parents=True, exist_ok=True)
        with locked(folder.path / "submit.lock"):
            if folder.finished or self._adopt(launch):
                return False
            if self._closed:
                raise LauncherClosed(f"{folder.path}: not started, since the run was cancelled")
            made = claim(folder)
            job = self._pod_job(launch, self.site.work_of(launch), made)
            record = record_before(
                launch,
                made,
                engine="kubernetes",
                command=_by_hand(launch, job),
                job_name=job.name,
                kind=_kind(job),
                run=_run(launch, job),
            )
            started = self._create(job)
            record_after(launch, record, job_id=f"{self._kubernetes.namespace}/{job.name}")
            self._jobs(_kind(job)).forget()
            return started

    def close(self) -> None:
        """Start no further job; those at work go on."""
        self._closed = True

    def queues(self, launch: Launch) -> bool:
        """Always: what the cluster has no room for waits."""
        return True

    def state(self, folder: RunFolder) -> JobState:
        """What the cluster says of the folder's job.

        Raises:
            NotAnswering: the API server has not answered for ten minutes, or not yet at all.
            KubernetesError: it has refused for as long.
        """
        launch = folder.read(folder.launch) or {}
        if not launch.get("job_name"):
            return JobState(alive=False)
        if launch["job_id"] is None and is_locked(folder.path / "submit.lock"):
            return JobState(alive=True, queued=True, description="being submitted to Kubernetes")
        jobs = self._jobs(str(launch["kind"]))
        return jobs.state(launch["job_name"], may_come=launch["job_id"] is None)

    def cancel(self, folder: RunFolder) -> None:
        """Delete the job: its pods are asked to reach a safe point, then killed.

        Raises:
            KubernetesError: the API server refused it, or does not answer.
        """
        launch = folder.read(folder.launch) or {}
        folder.cancel.touch()
        if not launch.get("job_name"):
            return
        kind, name = str(launch["kind"]), str(launch["job_name"])
        api = self._jobs(kind).api
        api.delete(kind, name)  # first, or its pods would come back
        api.delete_pods(f"{POD_LABEL[kind]}={name}", CANCEL_GRACE_SECONDS)
        deadline = time.monotonic() + CANCEL_PATIENCE_SECONDS
        while api.get(kind, name) is not None and time.monotonic() < deadline:
            time.sleep(CANCEL_POLL_SECONDS)
        self._jobs(kind).forget()

    def dry_run(self, launch: Launch, work: ResourceSpec) -> str:
        """The manifests that a submission of this launch would send, as YAML."""
        self._require_volume(launch)
        job = self._pod_job(launch, work, next_claim(launch.folder))
        return as_yaml(manifests(job))

    @property
    def _kubernetes(self) -> KubernetesSite:
        if self.site.kubernetes is None:
            raise ConfigError("the site file has no section kubernetes; add one")
        return self.site.kubernetes

    def _jobs(self, kind: str) -> Cluster:
        if kind not in self._clusters:
            site = self._kubernetes
            self._clusters[kind] = Cluster(
                api=Api(namespace=site.namespace, context=site.context),
                kind=kind,
                poll_seconds=site.poll_seconds,
            )
        return self._clusters[kind]

    def _adopt(self, launch: Launch) -> bool:
        """Whether the last submission's job is at work; completes what that left undone.

        The server itself is asked: a list may be older than the job.
        """
        folder = launch.folder
        record = folder.read(folder.launch) or {}
        before = folder.read(folder.claim)
        if before is None or record.get("engine") != "kubernetes" or "job_name" not in record:
            return False
        kind = str(record["kind"])
        found = self._jobs(kind).api.get(kind, str(record["job_name"]))
        if found is None or not job_state(found, []).alive:
            return False
        if record["job_id"] is None:  # the submitter died between the job and its record
            job_id = f"{self._kubernetes.namespace}/{record['job_name']}"
            record_after(launch, record, job_id=job_id)
        return True

    def _create(self, job: PodJob) -> bool:
        """Create all of a job; return whether it was not there already."""
        kind = _kind(job)
        api, created = self._jobs(kind).api, None
        for manifest in manifests(job):  # the job itself is the last
            created = api.create(manifest)
        found = created or api.get(kind, job.name)
        if found is None or found["metadata"].get("labels", {}).get(KEY) != job.labels[KEY]:
            raise KubernetesError(
                f"{kind} {job.name} in namespace {api.namespace} is not of this run folder, or is "
                "just being deleted; submit again"
            )
        return created is not None

    def _pod_job(self, launch: Launch, work: ResourceSpec, made: Claim) -> PodJob:
        site = self._kubernetes
        recipe, asset = str(launch.identity["recipe"]), str(launch.identity["asset"])
        name = kubernetes_name(recipe, asset, made.key, made.submission)
        environment = {**launch.environment, JOB_ID: f"{site.namespace}/{name}"}
        if work.cpus_per_node:
            environment[PROCESSES] = str(work.cpus_per_node)
        return PodJob(
            name=name,
            command=["python", "-m", "olmo_core.supervisor.pod", str(launch.folder.path)],
            # A label's value ends with a letter or digit.
            labels={RECIPE: recipe.rstrip("_"), ASSET: asset.rstrip("_"), KEY: made.key},
            environment=environment,
            nodes=work.nodes if launch.distributed else 1,
            work=work,
            site=site,
        )

    def _require_volume(self, launch: Launch) -> None:
        """Refuse a folder that pods would not find: configurations name paths, the same for all."""
        volume = Path(self._kubernetes.root)
        if not launch.folder.path.is_relative_to(volume):
            raise ConfigError(
                f"kubernetes: root: found {volume}, but the run folder is {launch.folder.path}: "
                "mount the volume here under the path that it has in the pods, and set OLMO_ROOT "
                "to it or to a folder in it"
            )


def _kind(job: PodJob) -> str:
    return KINDS[job.site.kind] if job.nodes > 1 else "Job"


def _run(launch: Launch, job: PodJob) -> dict[str, Any]:
    """What the supervisor and the node runners need to know, for launch.json."""
    work = job.work
    ranks = work.processes_per_node if launch.distributed else 1
    command = ["python", "-m", launch.module, str(launch.folder.config)]
    if launch.distributed:
        command = ["python", "-m", "olmo_core.supervisor.node", str(launch.folder.path)]
    return {
        "command": command,
        "module": launch.module,
        "distributed": launch.distributed,
        "nodes": job.nodes,
        "processes_per_node": ranks,
        "threads": max(1, work.cpus_per_node // ranks) if work.cpus_per_node else None,
        "stall_timeout_seconds": work.stall_timeout_minutes * 60,
        "max_failures": work.max_failures,
    }


def _by_hand(launch: Launch, job: PodJob) -> list[str]:
    """What resumes the job by hand: of several nodes, only the cluster can."""
    if job.nodes == 1:
        return ["python", "-m", "olmo_core.supervisor.supervise", str(launch.folder.path)]
    partition = launch.identity.get("partition")
    names = [str(launch.identity["recipe"]), str(launch.identity["asset"])]
    return ["olmo", "launch", *names, *(["--partition", str(partition)] if partition else [])]
