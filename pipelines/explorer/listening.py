"""Listen on this machine alone."""

import errno
import socket

from olmo_core.errors import ConfigError

LOOPBACK = "127.0.0.1"


def listen(port: int, option: str) -> socket.socket:
    """Return a socket that listens on loopback.

    Args:
        port: 0 takes any that is free.
        option: Of the command, that chooses another.

    Raises:
        ConfigError: the port is taken.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((LOOPBACK, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {LOOPBACK} is in use; end what listens there or choose another "
                f"for the explorer: {option} {port + 1}"
            ) from None
        raise ConfigError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from None
    return made
