"""Choose the Python of each environment: ours, another that is here, or one that uv installs."""

import os
import platform
import subprocess
import sys
from pathlib import Path

from environments.failure import SetupError, no_python
from environments.install import run_logged, say
from environments.pip_settings import UvSettings
from environments.stamp import Environment

MODULES = "ctypes sqlite3 ssl zlib"  # what a Python built by hand may lack


def base_python() -> Path:
    """Return the system's interpreter: the one behind .venv where that is the one that runs us."""
    return Path(getattr(sys, "_base_executable", sys.executable)).absolute()


def environment_python(
    root: Path, environment: Environment, uv: Path, settings: UvSettings
) -> Path:
    """Return the Python to make `environment` with, which uv installs where there is none.

    Raises:
        SetupError: None is here, and uv cannot install one.
    """
    if environment.takes(platform.python_version()):
        return base_python()
    search = subprocess.run(
        ["sh", "environments/find_python.sh", " ".join(environment.pythons), MODULES],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if search.returncode == 0:
        python = Path(search.stdout.strip())
    else:
        python = install_python(root, environment, uv, settings, found=search.stderr)
    say(f"{environment.name}: with {python}")
    return python


def install_python(
    root: Path, environment: Environment, uv: Path, settings: UvSettings, found: str
) -> Path:
    """Have uv install the oldest Python that `environment` takes, where uv keeps its Pythons.

    Raises:
        SetupError: uv cannot; the message holds `found`, the Pythons that do not serve.
    """
    version = environment.pythons[0]
    say(f"{environment.name}: needs Python {version}, which uv installs as none is here")
    log = root / ".build" / f"{environment.name}-python.log"
    log.unlink(missing_ok=True)
    allowed = {"UV_PYTHON_DOWNLOADS": os.environ.get("UV_PYTHON_DOWNLOADS", "manual")}
    output = ""
    for arguments in (("install", "--no-bin", version), ("find", "--managed-python", version)):
        command = (str(uv), "python", *arguments)
        status, output = run_logged(command, root, log, {**settings.variables, **allowed})
        if status:
            raise SetupError(no_python(environment.name, environment.pythons, found, output, log))
    return Path(output.strip().splitlines()[-1])
