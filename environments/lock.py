"""Resolve the locks anew: exact versions, one for every supported Python, and no addresses.

A version counts only where it has a wheel for that Python, so that set-up never needs a compiler.
`make lock` keeps the versions that are locked and still fit; `make lock ARGS=--upgrade` takes the
newest. Local labels are cut (`2.13.0+cpu` is `2.13.0`) and torch's CUDA packages are left out, as
they belong to one of torch's builds: each machine takes the build, and with it the packages, that
pip's configuration there leads to.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from environments.failure import SetupError
from environments.install import install_uv
from environments.pythons import base_python
from environments.setup import ROOT, pip_settings
from environments.stamp import ENVIRONMENTS, PEER

CUDA = re.compile(r"^(cuda-|nvidia-|triton==)")
HEADER = "# Made by `make lock`; change {inputs} instead.\n"
# They publish no wheel at all, and no compiled code either.
SOURCE_ONLY = ("rouge-score", "sqlitedict", "word2number")
LOCKS = {
    "environments/main.txt": ("pyproject.toml", "environments/main.in"),
    "environments/dolma.txt": ("environments/dolma.in",),
    "environments/peer.txt": ("environments/peer.in",),
}
PYTHONS = {environment.lock: environment.pythons for environment in (*ENVIRONMENTS, PEER)}


def main(arguments: Sequence[str]) -> int:
    """Write the locks; 1 if no one version of some package fits all supported Pythons."""
    try:
        for lock, inputs in LOCKS.items():
            write_lock(ROOT / lock, inputs, PYTHONS[lock], arguments)
    except SetupError as error:
        print(f"lock failed: {error}", file=sys.stderr)
        return 1
    return 0


def write_lock(
    lock: Path, inputs: Sequence[str], pythons: Sequence[str], arguments: Sequence[str]
) -> None:
    """Resolve `inputs` for the oldest Python and see that the others take the same versions.

    Raises:
        SetupError: There is no resolution, or another Python needs another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        preferred = Path(folder) / lock.name
        if lock.exists():
            preferred.write_text(lock.read_text())
        pins = compile_pins(inputs, pythons[0], "--output-file", str(preferred), *arguments)
        constraint = Path(folder) / "constraint.txt"
        constraint.write_text("\n".join(pins))
        for python in pythons[1:]:
            others = compile_pins(inputs, python, "--constraint", str(constraint))
            if missing := sorted(set(others) - set(pins)):
                raise SetupError(f"{lock.name}: Python {python} also needs {', '.join(missing)}")
    lock.write_text(HEADER.format(inputs=" and ".join(inputs)) + "\n".join(pins) + "\n")
    print(f"{lock.relative_to(ROOT)}: {len(pins)} packages")


def compile_pins(inputs: Sequence[str], python: str, *options: str) -> list[str]:
    """The packages that `inputs` need under `python` on Linux, as `name==version`."""
    base = base_python()
    settings = pip_settings(ROOT, base)
    command = [str(install_uv(ROOT, base)), "pip", "compile", "--no-header", "--no-annotate"]
    command += ["--python-version", python, "--python-platform", "linux", *options]
    command += ["--only-binary", ":all:"]
    command += [part for name in SOURCE_ONLY for part in ("--no-binary", name)]
    all_of_it = ["--extra", "dask", "--group", "dev"]
    command += [*(all_of_it if "pyproject.toml" in inputs else []), *inputs]
    done = subprocess.run(
        [*command, *settings.options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(f"Python {python} and {' and '.join(inputs)}: {done.stderr}")
    return pins_of(done.stdout)


def pins_of(resolution: str) -> list[str]:
    """The pins in what `uv pip compile` wrote, less local labels and torch's CUDA packages."""
    lines = [line.strip() for line in resolution.splitlines()]
    pins = [re.sub(r"\+[\w.]+", "", line) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return [pin for pin in pins if not CUDA.match(pin)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
