"""How fast a device could compute at best: what the model FLOPs of a run are measured against."""

import functools
import logging
import time

import torch

from olmo_core.model.matmul import matmul

log = logging.getLogger("olmo")

# FLOP/s of dense bf16 products, from the vendors' data sheets (which lead with twice that, for
# sparse matrices). The first name that a device's name contains counts.
_DENSE_BF16 = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,  # the GH200's too
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "MI300X": 1307e12,
}
_SIDE = 768  # of the measured matmul, 0.9 GFLOP: larger ones were no faster
_REPEATS = 4


def peak_flops(device: torch.device, *, bf16: bool, given: float | None) -> float | None:
    """FLOP/s that the device reaches at best; None where that is not known.

    Args:
        device: A GPU is looked up by its name. A CPU is measured: a product of float32 matrices,
            with the threads that training has.
        bf16: Whether the products of training are bfloat16; the table has no others.
        given: `speed_monitor.gpu_flops_available`: it counts before all else.
    """
    if given is not None:
        return given
    if device.type == "cpu":
        return measured_flops(torch.get_num_threads())
    if device.type != "cuda" or not bf16:
        return None
    name = torch.cuda.get_device_name(device)
    known = known_flops(name)
    if known is None:
        log.info("no MFU: speed_monitor.gpu_flops_available says what a %s can do", name)
    return known


def known_flops(name: str) -> float | None:
    """The table's entry of a GPU's name, as in `NVIDIA H100 80GB HBM3`."""
    return next((flops for part, flops in _DENSE_BF16.items() if part in name), None)


@functools.cache
def measured_flops(threads: int) -> float:
    """FLOP/s of the best of a few float32 products on this CPU, with `threads` threads."""
    del threads  # what the cache goes by: the caller has set them
    matrix = torch.full((_SIDE, _SIDE), 0.5)
    times: list[float] = []
    for _ in range(1 + _REPEATS):  # the first wakes threads and fills caches
        start = time.perf_counter()
        matmul(matrix, matrix)  # both in rows, as the model multiplies
        times.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(times)
