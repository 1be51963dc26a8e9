"""Peak FLOP/s of a device: what the model FLOPs of a run are measured against."""

import logging

import torch

from olmo_core.monitor.devices import known_flops

log = logging.getLogger("olmo")


def peak_flops(device: torch.device, *, bf16: bool, given: float | None) -> float | None:
    """Return the FLOP/s that a device reaches at best; None where that is not known.

    Args:
        device: A GPU is looked up by its name. A CPU's peak is not known: its data sheet does not
            say it, and a measurement depends on what else the machine does.
        bf16: Whether the products of training are bfloat16; the table has no others.
        given: `speed_monitor.gpu_flops_available`: it counts before all else.
    """
    if given is not None:
        return given
    if device.type != "cuda" or not bf16:
        return None
    name = torch.cuda.get_device_name(device)
    known = known_flops(name)
    if known is None:
        log.info("no MFU: speed_monitor.gpu_flops_available says what a %s can do", name)
    return known
