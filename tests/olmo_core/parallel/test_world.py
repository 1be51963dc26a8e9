"""The network that the ranks of several nodes meet on."""

import os
import socket

import pytest

from olmo_core.parallel.world import default_gloo_interface


@pytest.mark.parametrize(
    ("nccl", "gloo"),
    [
        ("ib", "ib0"),
        ("eth1,ib", "ib0"),
        ("=eth1", "eth1"),
        ("=eth", None),
        ("^eth", None),
        ("", None),
    ],
)
def test_gloo_takes_the_network_that_nccl_is_told_to_take(
    nccl: str, gloo: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["lo", "docker0", "ib0", "eth1"]
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names)))
    monkeypatch.setattr(os, "environ", environment := {"NCCL_SOCKET_IFNAME": nccl})
    default_gloo_interface()
    assert environment.get("GLOO_SOCKET_IFNAME") == gloo
    environment["GLOO_SOCKET_IFNAME"] = "mine"
    default_gloo_interface()
    assert environment["GLOO_SOCKET_IFNAME"] == "mine"
