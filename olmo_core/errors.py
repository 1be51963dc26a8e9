"""The errors of a job, and the exit code by which each is known outside of its process."""

import contextlib
import enum
import errno
import re
import sys
import traceback
from collections.abc import Generator, Iterable


class ExitCode(enum.IntEnum):
    """How a job's process ended."""

    FINISHED = 0
    FAILED = 1
    CONFIG = 2  # the configuration is invalid
    INPUT = 3  # bad data, or a file that may not be read or written
    STOPPED = 4  # asked to stop, and stopped at a safe point
    RUNNING = 5  # another job holds this run folder
    DIVERGED = 6  # the loss or the gradient is not a number
    REQUEUE = 75  # of a supervisor: to be started again, which counts against no limit


# Why a file may not be read or written: no bug, and nothing that another try would mend.
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


# From where a user may stand; urllib3 says a URL without its host. Each of these expressions takes
# time by the length of a text, whatever is in it: a message repeats what people write.
_URL = re.compile(r"(?:://|with url: /)[^\s'\"]*")
_USER = re.compile(r"(?<=://)[^/?#]+@")
# One part of a query, up to what only ends a sentence; a fragment may be one too.
_VALUE = re.compile(r"([?&])([^=&#]*=)?[^&#]*[^&#),;:.\]}]|(#[^=&#]*=)[^&#]+")


def redacted(text: str) -> str:
    """Return a text whose URLs show neither a user nor what stands in their queries.

    Either may be a secret: a password, a token, the signature of an address.
    """

    def hidden(found: re.Match[str]) -> str:
        url = _USER.sub("***@", found[0])
        head, mark, rest = re.split(r"([?#]|$)", url, maxsplit=1)
        return head + _VALUE.sub(_hidden_value, mark + rest)

    return _URL.sub(hidden, text) if "/" in text else text


def _hidden_value(found: re.Match[str]) -> str:
    return f"{found[3]}***" if found[3] else f"{found[1]}{found[2] or ''}***"


class ConfigError(ValueError):
    """A configuration that cannot mean what its author wants; the message says where and why.

    What it repeats of a file or a command line may be anything: a terminal gets to see no control
    character, and no line of ten thousand letters.
    """

    def __init__(self, message: str) -> None:
        said = redacted(message)
        plain = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in said)
        lines = (f"{v[:600]} … {v[-200:]}" if len(v) > 900 else v for v in plain.split("\n"))
        super().__init__("\n".join(lines))


class InputError(ValueError):
    """Bad data; the message names file, line, key, what was found and what would be right.

    Of URLs it shows no secrets.
    """

    def __init__(self, message: object) -> None:
        super().__init__(redacted(str(message)))


class StorageError(RuntimeError):
    """Results cannot be stored; the message says where and what to do."""


class Stopped(Exception):
    """The job was asked to stop (SIGTERM or the cancel file) and has reached a safe point."""


class Diverged(RuntimeError):
    """Loss or gradient is not a number; says at which step, and where to go back to."""


class AlreadyRunning(Exception):
    """Another job is at work in this run folder."""


@contextlib.contextmanager
def exit_codes() -> Generator[None]:
    """Turn the errors of a job into a message on standard error and the job's exit code."""
    try:
        yield
    except ConfigError as error:
        _leave(ExitCode.CONFIG, f"configuration: {error}")
    except InputError as error:
        _leave(ExitCode.INPUT, f"input: {error}")
    except (Stopped, KeyboardInterrupt) as error:
        _leave(ExitCode.STOPPED, f"stopped: {error}" if str(error) else "stopped on request")
    except AlreadyRunning as error:
        _leave(ExitCode.RUNNING, str(error))
    except Diverged as error:
        _leave(ExitCode.DIVERGED, str(error))
    except OSError as error:
        if error.errno not in REFUSALS:
            _leave(ExitCode.FAILED, traceback.format_exc())
        where = error.filename or traceback.format_exc()
        _leave(ExitCode.INPUT, f"input: {where}: {error.strerror}")
    except Exception:
        _leave(ExitCode.FAILED, traceback.format_exc())


def _leave(code: ExitCode, message: str) -> None:
    print(redacted(message), file=sys.stderr, flush=True)
    raise SystemExit(code) from None


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Return the first five names, sorted, and how many more there are."""
    first, rest = (ordered := sorted(names))[:5], ordered[5:]
    return separator.join(first) + (f" and {len(rest)} more" if rest else "")
