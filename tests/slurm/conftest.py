"""One cluster for all tests of this folder, and the table of what the drills have shown."""

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, running_cluster
from tests.slurm.table import TABLE


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Slurm; where it cannot be had the tests fail, they are not skipped."""
    with running_cluster() as up:
        yield up


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in TABLE.lines():
        terminalreporter.write_line(line)
