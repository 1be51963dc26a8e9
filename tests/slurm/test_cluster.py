"""The cluster of the tests itself: it comes up, two stand side by side, and it leaves nothing."""

import pytest

from tests.slurm.cluster import Cluster, running_cluster

pytestmark = pytest.mark.slurm


def test_a_second_cluster_stands_beside_the_first_and_leaves_nothing(cluster: Cluster) -> None:
    with running_cluster() as second:
        assert second.node_states() == ["idle"] * 3
        second.run("sbatch", "--wrap=sleep 300", "--output=/dev/null")
        folder = second.folder
    assert not folder.exists()
    assert second.processes() == []
    assert cluster.node_states() == ["idle"] * 3


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.slurm.cluster.SEARCH", "/nonexistent")
    with (
        pytest.raises(
            RuntimeError, match=r"apt-get install .* munge slurm-client slurmctld slurmd"
        ),
        running_cluster(),
    ):
        pass
