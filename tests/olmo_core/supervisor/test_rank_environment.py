"""Which network gloo takes, where dumps go, and that an operator's word is kept."""

from pathlib import Path

import pytest

from olmo_core.supervisor.rank_environment import network, rank_defaults

INTERFACES = ("lo", "eth0", "eth1", "ib0", "ib1", "docker0")
LOG = Path("/run/log")


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("ib0", "ib0"),
        ("ib", "ib0"),
        ("eth1,ib", "eth1"),
        ("=ib1", "ib1"),
        ("=ib1,ib0", "ib0"),  # NCCL takes them in the machine's order
        ("=ib", None),
        ("wlan", None),
        ("^docker", None),
        ("^=docker0", None),
        (",", None),
    ],
)
def test_gloo_takes_the_first_network_that_nccl_would(asked: str, chosen: str | None) -> None:
    assert network(asked, INTERFACES) == chosen


def test_only_what_the_operator_has_not_set_is_added() -> None:
    lazy = {"TORCH_GLOO_LAZY_INIT": "1"}
    both = {**lazy, "TORCH_FR_DUMP_TEMP_FILE": "/run/log/attempt3.collectives.rank"}
    assert rank_defaults({}, LOG, 3) == both
    on_loopback = {"NCCL_SOCKET_IFNAME": "=lo"}
    assert rank_defaults(on_loopback, LOG, 3) == {**both, "GLOO_SOCKET_IFNAME": "lo"}
    assert rank_defaults({**on_loopback, "GLOO_SOCKET_IFNAME": "ib0"}, LOG, 3) == both
    assert rank_defaults({"NCCL_SOCKET_IFNAME": "^lo"}, LOG, 3) == both
    for name in ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"):
        assert rank_defaults({name: "/tmp/mine"}, LOG, 3) == lazy
        assert rank_defaults({name: "/tmp/mine", "TORCH_GLOO_LAZY_INIT": "0"}, LOG, 3) == {}
