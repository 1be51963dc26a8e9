"""The Kubernetes engine: each job a Job, a JobSet or a TrainJob, found again by its name.

The name is made of the run folder's key and the attempt. The API server refuses a second object of
a name, so that a job whose submitter died in the act is adopted, and never started twice.

It has never met a live cluster; docs/kubernetes.md says what it was tried against.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from assets.launcher import EngineError, JobState, Launch
from olmo_core.environment import JOB_ID, PROCESSES
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers import submission
from pipelines.launchers.kubernetes.api import Api
from pipelines.launchers.kubernetes.cluster import POD_LABEL, Cluster, job_state
from pipelines.launchers.kubernetes.manifests import PodJob, as_yaml, manifests
from pipelines.names import kubernetes_name
from pipelines.site.file import KubernetesSite, Site

CANCEL_GRACE_SECONDS = 8  # then pods are killed: a cancelled job is gone within ten seconds
CANCEL_PATIENCE_SECONDS = 10.0
CANCEL_POLL_SECONDS = 0.5

RECIPE, ASSET, KEY = "olmo/recipe", "olmo/asset", "olmo/key"  # labels


@dataclass(kw_only=True)
class KubernetesLauncher:
    """Runs each job as pods over one volume, which the submitter has mounted too."""

    site: Site
    _clusters: dict[str, Cluster] = field(default_factory=dict[str, Cluster], repr=False)  # by kind

    def submit(self, launches: Sequence[Launch]) -> list[Launch]:
        """Start those jobs that are neither finished nor at work; returns them.

        Raises:
            ConfigError: the site does not fit a launch.
            EngineError: the API server refused it, or does not answer; what it has taken all
                the same, the next submission finds.
        """
        return [launch for launch in launches if self._submit(launch)]

    def dry_run(self, launch: Launch) -> str:
        """Return the manifests that a submission of this launch would send, as YAML."""
        self._require_volume(launch.folder.path)
        return as_yaml(manifests(self._pod_job(launch, submission.next_claim(launch.folder))))

    def queues(self, launch: Launch) -> bool:
        """Return True: what the cluster has no room for waits."""
        return True

    def state(self, folder: RunFolder) -> JobState:
        """Return what the cluster says of the folder's job.

        Raises:
            EngineUnavailable: the API server has not answered for ten minutes, or not yet at all.
            EngineError: it has refused for as long.
        """
        launch = submission.read_launch(folder)
        if not launch.get("job_name"):
            return JobState(alive=False)
        if launch["job_id"] is None and submission.under_way(folder):
            return JobState(alive=True, queued=True, description="being submitted to Kubernetes")
        jobs = self._jobs(launch["kind"])
        return jobs.state(launch["job_name"], may_come=launch["job_id"] is None)

    def cancel(self, folders: Sequence[RunFolder]) -> None:
        """Delete the jobs at work: their pods are asked to reach a safe point, then killed.

        Raises:
            EngineError: the API server refused it, or does not answer.
        """
        alive = [folder for folder in folders if self.state(folder).alive]
        with ThreadPoolExecutor(max(1, len(alive))) as pool:  # each may take seconds
            list(pool.map(self._cancel, alive))

    def _submit(self, launch: Launch) -> bool:
        self._require_volume(launch.folder.path)
        with submission.lock(launch.folder):
            if launch.folder.finished or self._adopt(launch):
                return False
            made = submission.claim(launch.folder)
            job = self._pod_job(launch, made)
            record = submission.record_before(
                launch,
                job.work,
                made,
                energy=self.site.energy,
                engine="kubernetes",
                command=_by_hand(launch, job),
                start=submission.node_command(launch, "python", ranks=launch.distributed),
                job_name=job.name,
                kind=job.kind,
            )
            started = self._create(job)
            submission.record_after(launch, record, job_id=self._job_id(job.name))
            self._jobs(job.kind).forget()
            return started

    def _cancel(self, folder: RunFolder) -> None:
        launch = submission.read_launch(folder)
        folder.cancel.touch()
        kind, name = str(launch["kind"]), str(launch["job_name"])
        api = self._jobs(kind).api
        api.delete(kind, name)  # first, or its pods would come back
        api.delete_pods(f"{POD_LABEL[kind]}={name}", CANCEL_GRACE_SECONDS)
        deadline = time.monotonic() + CANCEL_PATIENCE_SECONDS
        while api.get(kind, name) is not None and time.monotonic() < deadline:
            time.sleep(CANCEL_POLL_SECONDS)
        self._jobs(kind).forget()

    @property
    def _kubernetes(self) -> KubernetesSite:
        if self.site.kubernetes is None:
            raise ConfigError("the site file has no section kubernetes; add one")
        return self.site.kubernetes

    def _jobs(self, kind: str) -> Cluster:
        site = self._kubernetes
        api = Api(namespace=site.namespace, context=site.context)  # connects at its first call
        made = Cluster(api=api, kind=kind, poll_seconds=site.poll_seconds)
        return self._clusters.setdefault(kind, made)

    def _job_id(self, name: str) -> str:
        return f"{self._kubernetes.namespace}/{name}"

    def _adopt(self, launch: Launch) -> bool:
        """Return whether the last submission's job is at work; completes what that left undone.

        The server itself is asked: a list may be older than the job.
        """
        record = submission.read_launch(launch.folder)
        if record.get("engine") != "kubernetes":
            return False
        kind, name = str(record["kind"]), str(record["job_name"])
        found = self._jobs(kind).api.get(kind, name)
        if found is None or not job_state(found, []).alive:
            return False
        if record["job_id"] is None:  # the submitter died between the job and its record
            submission.record_after(launch, record, job_id=self._job_id(name))
        return True

    def _create(self, job: PodJob) -> bool:
        """Create all of a job; returns whether it was not there already."""
        api, created = self._jobs(job.kind).api, None
        for manifest in manifests(job):  # the job itself is the last
            created = api.create(manifest)
        found = created or api.get(job.kind, job.name)
        if found is None or found["metadata"].get("labels", {}).get(KEY) != job.labels[KEY]:
            raise EngineError(
                f"{job.kind} {job.name} in namespace {api.namespace} is not of this run folder, or "
                "is just being deleted; submit again"
            )
        return created is not None

    def _pod_job(self, launch: Launch, made: submission.Claim) -> PodJob:
        site, work = self._kubernetes, self.site.work_of(launch)
        recipe, asset = launch.names
        name = kubernetes_name(recipe, asset, made.key, made.submission)
        environment = {**launch.environment, JOB_ID: self._job_id(name)}
        if work.cpus_per_node:
            environment[PROCESSES] = str(work.cpus_per_node)
        return PodJob(
            name=name,
            command=["python", "-m", "olmo_core.supervisor.pod", str(launch.folder.path)],
            # A label's value ends with a letter or digit.
            labels={RECIPE: recipe.rstrip("_"), ASSET: asset.rstrip("_"), KEY: made.key},
            environment=environment,
            work=work,
            site=site,
        )

    def _require_volume(self, folder: Path) -> None:
        """Refuse a folder that pods would not find: configurations name paths, the same for all."""
        volume = self._kubernetes.root
        if not folder.is_relative_to(volume):
            raise ConfigError(
                f"kubernetes: root: found {volume}, but the run folder is {folder}: mount the "
                "volume here under the path that it has in the pods, and set OLMO_ROOT to it or to "
                "a folder in it"
            )


def _by_hand(launch: Launch, job: PodJob) -> list[str]:
    """Return what resumes the job by hand: of several nodes, only the cluster can."""
    if job.work.nodes == 1:
        return ["python", "-m", "olmo_core.supervisor.supervise", str(launch.folder.path)]
    partition = launch.identity.get("partition")
    chosen = ["--partition", str(partition)] if partition else []
    return ["olmo", "launch", *launch.names, *chosen]
