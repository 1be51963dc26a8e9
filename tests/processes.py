"""Processes that tests start, and ports for them."""

import contextlib
import random
import socket
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def exit_codes(processes: Sequence[BaseProcess], seconds: float) -> list[int | None]:
    """Wait for processes, and kill those that have not ended in time, whose code is None.

    A rank may wait for another for ever, and Python for each process at its own end.
    """
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody has.

    They are none that the kernel gives to connections, or to who asks for any: tests run side by
    side, and one of those might be another's before it is used.
    """
    lowest, dice = int(_EPHEMERAL.read_text().split()[0]), random.SystemRandom()
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            port = dice.randrange(10_000, lowest)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("", port)))
                found.append(port)
    return found
