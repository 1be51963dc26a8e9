"""What vendors say of GPUs: peak FLOP/s and power. Free of torch."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One kind of GPU. `watts` is the board power of its data sheet; None is not listed here."""

    flops: float  # FLOP/s of dense bf16 products
    watts: float | None = None


# From the vendors' data sheets (which lead with twice the FLOP/s, for sparse matrices): NVIDIA's of
# each product, of the HGX B200 and B300 and of the GB200 and GB300 NVL72 by GPU, of the A10G as AWS
# has it, the Ada whitepaper for the RTX 4090; AMD's Instinct.
# The key is the device's whole name without its vendor and `_SAME_PEAK`.
_DEVICES = {
    "GB300": Device(2500e12),
    "B300": Device(2250e12),
    "GB200": Device(2500e12, 1200),
    "B200": Device(2250e12, 1000),
    "GH200": Device(989e12),
    "H200": Device(989e12, 700),
    "H200 NVL": Device(835e12, 600),
    "H100": Device(989e12, 700),
    "H100 PCIe": Device(756e12, 350),
    "H100 NVL": Device(835e12, 400),
    "H800": Device(989e12, 700),
    "H800 PCIe": Device(756e12, 350),
    "H20": Device(148e12, 400),
    "A100": Device(312e12, 400),
    "A100 PCIe": Device(312e12, 300),
    "A800": Device(312e12, 400),
    "A800 PCIe": Device(312e12, 300),
    "L40S": Device(362e12, 350),
    "L40": Device(181e12, 300),
    "A10G": Device(70e12),
    "GeForce RTX 4090": Device(165e12, 450),
    "MI325X": Device(1307e12, 1000),
    "MI300X": Device(1307e12, 750),
}
NAMES = tuple(_DEVICES)
_VENDOR = re.compile(r"^(NVIDIA|AMD Instinct) ")
# Memory and sockets that a product is sold with at one and the same peak.
_SAME_PEAK = re.compile(r"\d+GB?|HBM3e?|SXM[456]|OAM|AC")


def product_name(name: str) -> str:
    """Return a GPU's name without what no speed depends on: `H100` of `NVIDIA H100 80GB HBM3`."""
    words = re.split(r"[ -]", _VENDOR.sub("", name))
    product = " ".join(word for word in words if not _SAME_PEAK.fullmatch(word))
    return product.replace("PCIE", "PCIe")


def known_device(name: str) -> Device | None:
    """Return the table's entry for a GPU's name, as in `NVIDIA H100 80GB HBM3`.

    The whole name has to match: a laptop's RTX 4090 or a slice of an A100 (MIG) is another device.
    """
    return _DEVICES.get(product_name(name))


def known_flops(name: str) -> float | None:
    """Return the peak FLOP/s of the GPU that `known_device` finds."""
    device = known_device(name)
    return None if device is None else device.flops
