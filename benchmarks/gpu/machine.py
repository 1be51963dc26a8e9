"""Part `machine`: what device, driver and versions these are, and how fast memory is copied."""

import importlib.metadata
import os
import platform
import shutil
import subprocess

import torch
from part import CUDA, DEVICE, SMALL, case, finish, milliseconds, say
from torch.cuda import nccl

BYTES = 1 << 24 if SMALL else 1 << 30
QUERY = "name,driver_version,memory.total,clocks.max.sm,power.limit,pstate"


def version(package: str) -> str | None:
    """Return a package's version; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe() -> None:
    """Say what there is."""
    packages = ("numpy", "pyyaml", "safetensors", "triton", "psutil", "pytest")
    say(
        "versions",
        python=platform.python_version(),
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version() if CUDA else None,
        nccl=nccl.version() if CUDA else None,
        **{package: version(package) for package in packages},
        compiler=shutil.which(os.environ.get("CXX", "g++")),
        cpus=os.cpu_count(),
    )
    if not CUDA:
        say("device", name="CPU", note="no CUDA device here: all shapes are small")
        return
    found = torch.cuda.get_device_properties(DEVICE)
    say(
        "device",
        name=found.name,
        capability=list(torch.cuda.get_device_capability(DEVICE)),
        multiprocessors=found.multi_processor_count,
        memory_gib=found.total_memory / 2**30,
        free_gib=torch.cuda.mem_get_info(DEVICE)[0] / 2**30,
    )
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    for line in asked.stdout.splitlines():
        say("nvidia-smi", **dict(zip(QUERY.split(","), line.split(", "), strict=True)))


def copies() -> None:
    """Say how fast a block of memory is copied; on the device bytes are read and written."""
    here = torch.empty(BYTES, dtype=torch.uint8, device=DEVICE)
    there = torch.empty_like(here)
    ways = {"on the device": (there, here, 2)}
    if CUDA:
        pinned = torch.empty(BYTES, dtype=torch.uint8, pin_memory=True)
        pageable = torch.empty(BYTES, dtype=torch.uint8)
        ways |= {
            "host to device, pinned": (here, pinned, 1),
            "host to device, pageable": (here, pageable, 1),
            "device to host, pinned": (pinned, here, 1),
        }
    for what, (target, source, passes) in ways.items():
        with case(f"copy {what}"):
            took = milliseconds(lambda t=target, s=source: t.copy_(s, non_blocking=True))
            say(f"copy {what}", gb_per_second=passes * BYTES / took / 1e6, bytes=BYTES)


if __name__ == "__main__":
    with case("device"):
        describe()
    copies()
    finish()
