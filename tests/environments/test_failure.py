"""Failed commands of pip and uv become messages that name the package and say what to do."""

from pathlib import Path

import pytest

from environments.failure import explain, named_package, went_offline

UV_OFFLINE = """Using Python 3.11.7 environment at: .venv
error: Request failed after 3 retries in 4.2s
  cause: Failed to fetch: https://index.example/simple/grpcio-health-checking/
  cause: error sending request for url (https://index.example/simple/grpcio-health-checking/)
  cause: client error (Connect)
  cause: dns error
"""
UV_UNKNOWN = """error: No solution found when resolving dependencies
  cause: Because there is no version of absl-py==2.5.1 and you require absl-py==2.5.1, we can \
conclude that your requirements are unsatisfiable.
"""
PIP_OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken by \
'NewConnectionError(...: Failed to establish a new connection)': /simple/uv/
ERROR: Could not find a version that satisfies the requirement uv==0.13.8 (from versions: none)
ERROR: No matching distribution found for uv==0.13.8
"""
UV_FULL = """error: Failed to install: torch-2.13.0-cp311.whl (torch==2.13.0)
  cause: failed to write to file: No space left on device (os error 28)
"""


@pytest.mark.parametrize(
    ("output", "package"),
    [
        (UV_OFFLINE, "grpcio-health-checking"),
        (UV_UNKNOWN, "absl-py==2.5.1"),
        (PIP_OFFLINE, "uv==0.13.8"),
        ("error: Failed to download `torch==2.13.0`", "torch==2.13.0"),
        ("error: something else", "a package"),
    ],
)
def test_the_package_that_could_not_be_had_is_named(output: str, package: str) -> None:
    assert named_package(output) == package


@pytest.mark.parametrize("output", [UV_OFFLINE, PIP_OFFLINE])
def test_no_network_says_so_and_what_to_do(output: str) -> None:
    message = explain(output, Path("all.log"))
    assert went_offline(output)
    assert f"cannot get {named_package(output)}: the network does not answer" in message
    assert "find-links" in message
    assert "all.log" in message


def test_a_full_disk_is_told_from_a_network_that_is_gone() -> None:
    message = explain(UV_FULL, Path("all.log"))
    assert message.startswith("the disk is full")
    assert "UV_CACHE_DIR" in message


def test_any_other_failure_shows_the_end_of_what_was_printed() -> None:
    message = explain(UV_UNKNOWN, Path("all.log"))
    assert message.startswith("cannot install absl-py==2.5.1")
    assert "no version of absl-py" in message
