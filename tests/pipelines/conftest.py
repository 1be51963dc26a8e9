"""What several files of tests ask for: a production of its own, a launcher for Kubernetes."""

import contextlib
import os
import textwrap
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from assets.paths import CHECKOUT
from pipelines.site.file import KubernetesSite, ResourceSpec, Site
from tests.conftest import TOY_JOB
from tests.pipelines.launchers.kubernetes.kubernetes_bench import Bench
from tests.pipelines.launchers.kubernetes.kubernetes_server import (
    Cluster,
    api_server,
    write_kubeconfig,
)
from tests.pipelines.postgres import Postgres, running_postgres
from tests.pipelines.production import ALL, DEFINITIONS, GRAPHS, Production, in_production


@contextlib.contextmanager
def production_environment(
    folder: Path, definitions: str = DEFINITIONS
) -> Generator[pytest.MonkeyPatch]:
    """What every process of a production in this folder inherits."""
    modules = folder / "modules"
    modules.mkdir()
    (modules / "toy_job.py").write_text(textwrap.dedent(TOY_JOB))
    (modules / "toy_definitions.py").write_text(definitions.format(graphs=GRAPHS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(modules), str(CHECKOUT)]))
        patch.setenv("OLMO_ROOT", str(folder / "root"))
        patch.setenv("OLMO_SITE", os.devnull)
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("TOY_GATES", str(folder / "gate"))
        yield patch


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that a production works in."""
    folder = tmp_path_factory.mktemp("production")
    with production_environment(folder):
        yield folder


@pytest.fixture(scope="module")
def postgres(environment: Path) -> Iterator[Postgres]:
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="module")
def production(environment: Path, postgres: Postgres) -> Iterator[Production]:
    with in_production(environment, postgres) as made:
        made.start(*ALL)
        yield made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    cluster = Cluster()
    root = tmp_path / "olmo"
    site = Site(
        kubernetes=KubernetesSite(
            image="registry.example.org/olmo:1", namespace="lm", claim="results", root=str(root)
        ),
        work={
            "train": ResourceSpec(
                engine="kubernetes", nodes=2, processes_per_node=2, cpus_per_node=4
            )
        },
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with api_server(cluster) as url:
        write_kubeconfig(tmp_path / "kubeconfig", url)
        yield Bench(cluster=cluster, root=root, site=site)
