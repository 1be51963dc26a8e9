"""The libraries and the kind of device that a downstream score depends on; imports none of them.

Where every score is known a job ends before it has imported torch, transformers or lm-eval.
"""

import ctypes
import functools
from importlib import metadata


@functools.cache  # it parses a file, and a job asks dozens of times
def version(package: str) -> str:
    """Return the version of an installed package."""
    return metadata.version(package)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a score depends on."""
    return {name: version(name) for name in ("lm_eval", "transformers", "torch", "tokenizers")}


def device_type() -> str:
    """Return the type of the device that models are evaluated on: `cuda`, `cpu`.

    It is the CPU without a look where torch is built for it, or where CUDA has no driver; else
    torch is asked, which takes seconds to import.
    """
    build = version("torch").partition("+")[2]  # cpu, cu130, rocm7.1; wheels of the index have none
    if build == "cpu" or (not build.startswith("rocm") and not _has_cuda_driver()):
        return "cpu"
    from olmo_core.checkpoint.huggingface import device_for_evaluation

    return device_for_evaluation().type


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
