"""A job from the command line: its configuration file, its log, its exit code."""

import argparse
import contextlib
import errno
import logging
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from olmo_core.config.load import ConfigError, build, load
from olmo_core.run.code import code_hashes
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import AlreadyRunning, InputError, Job, Report, Stopped

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_INPUT = 3
EXIT_STOPPED = 4  # asked to stop, and stopped at a safe point
EXIT_RUNNING = 5  # another job holds this run folder

# A file that may not be read or written: no bug, and nothing that trying again would mend.
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)

C = TypeVar("C")


def run_job(
    config_class: type[C],
    make: Callable[[C, Mapping[str, Path], Job], Report],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one job from the command line: `python -m MODULE RUN_FOLDER/config.yaml`.

    The file holds `config` (the recipe's section) and `inputs` (asset name -> run folder).
    Exits 0, or with one of the `EXIT_…` codes above.
    """
    parser = argparse.ArgumentParser(
        description=(make.__doc__ or "").strip().splitlines()[0] if make.__doc__ else None,
        epilog="The run folder is the folder of the file; result.json is written last.",
    )
    parser.add_argument("config", type=Path, metavar="RUN_FOLDER/config.yaml")
    path: Path = parser.parse_args(arguments).config
    set_up_logging()
    with exit_codes():
        tree = load(path)
        for key in ("config", "inputs"):
            if not isinstance(tree.get(key), Mapping):
                raise ConfigError(f"{path}: {key}: expected a mapping of keys")
        config = build(config_class, tree["config"], where="config")
        inputs = {name: Path(str(folder)) for name, folder in tree["inputs"].items()}
        _require_the_submitted_code(RunFolder(path.parent))
        with Job.open(path.parent) as job:
            job.ready()
            job.finish(make(config, inputs, job))


def _require_the_submitted_code(folder: RunFolder) -> None:
    """A job may wait in a queue for days: its result is to be of the code that its folder says.

    Raises:
        ConfigError: the code has been edited since.
    """
    parts: Mapping[str, Any] = (folder.read(folder.launch) or {}).get("parts") or {}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not parts or parts["packages"]["python"] != python:  # by hand; another Python hashes so
        return
    before, now = parts["code"], code_hashes(parts["module"])
    edited = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if edited:
        raise ConfigError(
            f"{', '.join(edited)}: edited since this job was submitted, and its result would not "
            f"be what {folder.path.name} stands for; run again"
        )


@contextlib.contextmanager
def exit_codes() -> Generator[None]:
    """Turn the errors of a job into a message on stderr and the job's exit code."""
    try:
        yield
    except ConfigError as error:
        _leave(EXIT_CONFIG, f"configuration: {error}")
    except InputError as error:
        _leave(EXIT_INPUT, f"input: {error}")
    except (Stopped, KeyboardInterrupt) as error:
        _leave(EXIT_STOPPED, f"stopped: {error}" if str(error) else "stopped on request")
    except AlreadyRunning as error:
        _leave(EXIT_RUNNING, str(error))
    except OSError as error:
        if error.errno not in REFUSALS:
            _leave(EXIT_FAILED, traceback.format_exc())
        where = error.filename or traceback.format_exc()
        _leave(EXIT_INPUT, f"input: {where}: {error.strerror}")
    except Exception:
        _leave(EXIT_FAILED, traceback.format_exc())


def _leave(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(code) from None


def set_up_logging() -> None:
    """Log to stderr, a line an event, with the time: the launcher sends it to the run's log."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
        force=True,
    )
