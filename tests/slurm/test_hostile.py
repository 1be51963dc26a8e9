"""Hostile values on a real Slurm: through sbatch and its batch script to the job, to the letter."""

import json
from pathlib import Path

import pytest

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers.router import site_launcher
from pipelines.site.file import ResourceSpec, Site, SlurmSite
from tests.hostile import hostile
from tests.pipelines.cli.test_launch import wait_for
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

JOB = '''
"""Write down the environment."""
import json, os
from dataclasses import dataclass
from olmo_core.run.command import run_job
from olmo_core.run.job import Report

@dataclass(frozen=True, kw_only=True)
class Config:
    text: str

def make(config, inputs, job):
    """Toy."""
    (job.folder / "found.json").write_text(json.dumps([config.text, dict(os.environ)]))
    return Report()

if __name__ == "__main__":  # tasks import this module
    run_job(Config, make)
'''


@pytest.mark.parametrize(
    "name", ["plain", "$(touch CANARY) 'q' \"d\"; touch CANARY", "-rf %j %x\nx"]
)
def test_values_reach_a_slurm_job_to_the_letter(
    name: str,
    cluster: Cluster,
    toy_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (toy_root.parent / "modules" / "environment_job.py").write_text(JOB)
    for key, value in cluster.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PASSED_TOKEN", "a,b='c' $(touch x)\n\"d\"")
    cage = tmp_path / "cage"
    cage.mkdir()
    values = hostile(cage / "canary")
    environment = {f"V{n}": value for n, value in enumerate(values) if takes(value)}
    root = tmp_path / name.replace("CANARY", "canary")
    slurm = SlurmSite(
        poll_seconds=0.3,
        environment=environment,
        pass_environment=("PYTHONPATH", "PASSED_TOKEN"),
    )
    corpus = ResourceSpec(engine="slurm", cpus_per_node=1)
    launcher = site_launcher(Site(slurm=slurm, work={"corpus": corpus}))
    text = "".join(values).replace("\0", "")
    launch = Launch(
        folder=RunFolder(root / "toy" / "first" / "0"),
        module="environment_job",
        stage="corpus",
        config={"config": {"text": text}, "inputs": {}},
        identity={"recipe": "toy", "asset": "first", "fingerprint": name},
        environment={"OLMO_ROOT": str(root)},
    )
    assert launcher.submit([launch])
    wait_for(lambda: launch.folder.finished or not launcher.state(launch.folder).alive)
    assert launch.folder.finished, (launch.folder.log / "submission1.log").read_text()
    found_text, found = json.loads((launch.folder.path / "found.json").read_text())
    assert found_text == text
    assert found.items() >= environment.items()
    assert len(environment) > 40
    assert found["OLMO_ROOT"] == str(root)
    assert found["PASSED_TOKEN"] == "a,b='c' $(touch x)\n\"d\""
    assert list(cage.iterdir()) == []
    assert not (CHECKOUT / "canary").exists()  # where the script's commands would have put it
    recorded = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"a,b='c'" not in recorded.replace((launch.folder.path / "found.json").read_bytes(), b"")


def takes(value: str) -> bool:
    try:
        Site(slurm=SlurmSite(environment={"A": value}))
    except ConfigError:
        return False
    return True
