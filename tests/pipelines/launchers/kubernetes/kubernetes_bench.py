"""A launcher for Kubernetes with the stand-in API server that it talks to, for the tests."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assets.launcher import Launch
from olmo_core.run.folder import RunFolder
from pipelines.launchers.kubernetes.launcher import KubernetesLauncher
from pipelines.site.file import Site
from tests.pipelines.launchers.kubernetes.kubernetes_server import Cluster


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A launcher, the cluster that it talks to, and launches for it."""

    cluster: Cluster
    root: Path
    site: Site

    def launcher(self, *, poll_seconds: float = 0, **changes: Any) -> KubernetesLauncher:
        """A launcher of its own, as in a process of its own; it does not pause."""
        assert self.site.kubernetes is not None
        kubernetes = replace(self.site.kubernetes, **changes)
        made = KubernetesLauncher(site=replace(self.site, kubernetes=kubernetes))
        for kind in ("Job", "JobSet", "TrainJob"):
            made._jobs(kind).poll_seconds = poll_seconds
            made._jobs(kind).api.pauses_seconds = (0, 0, 0)
        return made

    def launch(self, asset: str = "stage1", **changes: Any) -> Launch:
        made = Launch(
            folder=RunFolder(self.root / "demo" / asset / "0"),
            module="olmo_core.train",
            stage="train",
            config={"config": {"x": "$(touch canary)"}},
            identity={"recipe": "demo", "asset": asset, "fingerprint": "f"},
            distributed=True,
            environment={"OLMO_ROOT": str(self.root)},
        )
        return replace(made, **changes)

    def submitted(self, asset: str) -> RunFolder:
        """A folder whose job another process has submitted."""
        launch = self.launch(asset)
        self.launcher().submit([launch])
        return launch.folder

    def job(self) -> str:
        """The name of the one Job, JobSet or TrainJob that there is."""
        named = self.cluster.named
        (name,) = named("jobs") + named("jobsets") + named("trainjobs")
        return name


def recorded(launch: Launch) -> dict[str, Any]:
    return launch.folder.read(launch.folder.launch) or {}


def terminated(code: int, reason: str = "Error") -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason}
    return {"phase": "Failed", "containerStatuses": [{"state": {"terminated": end}}]}


RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
