"""What the ranks of a node find in their environment, beyond what torchrun says."""

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

_NCCL_NETWORK, _GLOO_NETWORK = "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"
# Where NCCL's flight recorder writes a rank's last collectives as one of them times out: its rank
# is appended. The second is the older name; torch takes the first that is set.
_DUMPS = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")
_LAZY = "TORCH_GLOO_LAZY_INIT"


def rank_defaults(environment: Mapping[str, str], log: Path, attempt: int) -> dict[str, str]:
    """Return variables for the ranks; none that the operator has set.

    gloo connects those ranks alone that tell each other something; by itself, all of a group. Its
    network is NCCL's: by itself it takes that of the host's name, which may be the loopback or a
    network for management.
    """
    added = {} if _LAZY in environment else {_LAZY: "1"}
    asked = environment.get(_NCCL_NETWORK)
    if asked and _GLOO_NETWORK not in environment:
        chosen = network(asked, _with_address())
        if chosen is not None:
            added[_GLOO_NETWORK] = chosen
    if not any(name in environment for name in _DUMPS):
        added[_DUMPS[0]] = str(log / f"attempt{attempt}.collectives.rank")
    return added


def network(asked: str, interfaces: Iterable[str]) -> str | None:
    """Return the first interface that NCCL would take for this value of NCCL_SOCKET_IFNAME.

    A list of prefixes; of whole names after `=`. After `^` it says what not to take, which chooses
    nothing: None, as where none fits. Source: NCCL's user guide, "Environment Variables".
    """
    if asked.startswith("^"):
        return None
    exact = asked.startswith("=")
    wanted = tuple(part for part in asked.removeprefix("=").split(",") if part)
    for name in interfaces:
        if name in wanted or (not exact and name.startswith(wanted)):
            return name
    return None


def _with_address() -> list[str]:
    """Return the interfaces that have an IPv4 address, in the machine's order; gloo needs one."""
    import psutil

    addresses = psutil.net_if_addrs()
    return [
        name
        for _, name in socket.if_nameindex()
        if any(each.family == socket.AF_INET for each in addresses.get(name, ()))
    ]
