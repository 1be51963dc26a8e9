"""Training in pods that are processes here: a pod is lost, and the weights are those of no loss.

The manifests and the API are the engine's own; what stands in are the API server and the kubelet.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from assets.launcher import Launch
from olmo_core.run import attempts
from olmo_core.run.folder import RunFolder
from pipelines.launchers.kubernetes.launcher import KubernetesLauncher
from pipelines.launchers.local import LocalLauncher
from pipelines.site.file import KubernetesSite, ResourceSpec, Site
from tests.olmo_core.train.conftest import CONFIG
from tests.olmo_core.train.conftest import token_files as token_files
from tests.pipelines.launchers.kubernetes.kubelet import Kubelet, can_isolate
from tests.pipelines.launchers.kubernetes.kubernetes_server import (
    Cluster,
    api_server,
    write_kubeconfig,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_isolate(), reason="no process namespaces (unshare) here"),
]

STEPS = 80
SAVE_INTERVAL = 10
END_SECONDS = 240.0


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    made = Cluster()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with api_server(made) as url:
        write_kubeconfig(tmp_path / "kubeconfig", url)
        yield made


def training(root: Path, name: str, tokens: list[str]) -> Launch:
    folder = RunFolder(root / "toy" / name / "0")
    config = yaml.safe_load(CONFIG)
    config |= {"save_folder": str(folder.path), "max_duration": STEPS, "stop_at": STEPS}
    config |= {"save_interval": SAVE_INTERVAL}
    config["data"]["paths"] = tokens
    return Launch(
        folder=folder,
        module="olmo_core.train",
        stage="train",
        config=config,
        identity={"recipe": "toy", "asset": name, "fingerprint": "f", "inputs": {}, "parts": {}},
        distributed=True,
        environment={"OLMO_ROOT": str(root)},
    )


def until(holds: Callable[[], bool], launch: Launch) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not holds():
        log = launch.folder.log / "submission1.log"
        said = log.read_text() if log.exists() else "no log"
        assert time.monotonic() < deadline, said[-3000:]
        time.sleep(0.05)


def step(launch: Launch) -> int:
    status = launch.folder.read_status() or {}
    return int(status.get("step") or 0)


def test_a_pod_that_is_lost_costs_no_bit(
    tmp_path: Path, cluster: Cluster, token_files: list[str]
) -> None:
    root = tmp_path / "olmo"
    shape = ResourceSpec(nodes=1, processes_per_node=2, cpus_per_node=2)
    local = LocalLauncher(site=Site(work={"train": shape}))
    plain = training(root, "plain", token_files)
    assert local.submit([plain])
    until(lambda: plain.folder.finished, plain)

    kubernetes = KubernetesSite(image="olmo", namespace="lm", claim="results", root=str(root))
    two = replace(shape, engine="kubernetes", nodes=2, processes_per_node=1, cpus_per_node=1)
    pods = KubernetesLauncher(site=Site(kubernetes=kubernetes, work={"train": two}))
    lossy = training(root, "lossy", token_files)
    assert pods.submit([lossy])
    (name,) = cluster.named("jobsets")
    with Kubelet(cluster) as kubelet:
        until(lambda: step(lossy) > SAVE_INTERVAL, lossy)
        kubelet.lose(name, 1)
        until(lambda: "conditions" in (cluster.objects["jobsets", name].get("status") or {}), lossy)
        assert kubelet.pods[name].restarts == 1
    state = pods.state(lossy.folder)
    assert (state.alive, state.ended) == (False, "Complete")
    lost, finished = [row for row in attempts.read(lossy.folder) if row["event"] == "ended"]
    assert (lost["cause"], lost["next"]) == ("node_lost", "requeue")
    assert finished["cause"] == "finished"
    weights = [each.folder.path / "model" / "model.safetensors" for each in (plain, lossy)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
