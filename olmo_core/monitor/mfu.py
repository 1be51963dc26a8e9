"""Peak FLOP/s of a device: what the model FLOPs of a run are measured against."""

import logging
import re

import torch

log = logging.getLogger("olmo")

# FLOP/s of dense bf16 products, from the vendors' data sheets (which lead with twice that, for
# sparse matrices): NVIDIA's of each product, of the HGX B200 and B300 and of the GB200 and GB300
# NVL72 by GPU, of the A10G as AWS has it, the Ada whitepaper for the RTX 4090; AMD's Instinct.
# The key is the device's whole name without its vendor and `_SAME_PEAK`.
_DENSE_BF16 = {
    "GB300": 2500e12,
    "B300": 2250e12,
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H800": 989e12,
    "H800 PCIe": 756e12,
    "H20": 148e12,
    "A100": 312e12,
    "A100 PCIe": 312e12,
    "A800": 312e12,
    "A800 PCIe": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "A10G": 70e12,
    "GeForce RTX 4090": 165e12,
    "MI325X": 1307e12,
    "MI300X": 1307e12,
}
_VENDOR = re.compile(r"^(NVIDIA|AMD Instinct) ")
# Memory and sockets that a product is sold with at one and the same peak.
_SAME_PEAK = re.compile(r"\d+GB?|HBM3e?|SXM[456]|OAM|AC")


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


def known_flops(name: str) -> float | None:
    """Return the table's entry for a GPU's name, as in `NVIDIA H100 80GB HBM3`.

    The whole name has to match: a laptop's RTX 4090 or a slice of an A100 (MIG) is another device.
    """
    words = re.split(r"[ -]", _VENDOR.sub("", name))
    product = " ".join(word for word in words if not _SAME_PEAK.fullmatch(word))
    return _DENSE_BF16.get(product.replace("PCIE", "PCIe"))
