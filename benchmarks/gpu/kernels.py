"""What the kernels of a piece of work take on the device, by name and by kind."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from part import CUDA, synchronize
from torch.profiler import ProfilerActivity, profile

# The first that matches says the kind. A Triton kernel that does nothing but cast is a cast; others
# are named after their neighbours in the graph, too (attention), as flash kernels after cutlass.
KINDS = {
    "casts": r"triton_poi_fused__to_copy(_t|_view|_permute)*_\d+$|copy_kernel|aten::copy_",
    "compiled": r"^triton_|graph_\d+_cpp_fused",
    "attention": r"flash|fmha|sdpa|attention",
    "optimizer": r"adam|multi_tensor_apply",
    "products": r"gemm|nvjet|cutlass|xmma|cublas|splitk|::(add|b)?mm$|linear_pointwise",
    "copies": r"memcpy|memset",
}
NAME = 110  # characters of a kernel's name that are told
TOP = 25


def kind_of(kernel: str) -> str:
    """Return what a kernel is there for, by its name."""
    for kind, pattern in KINDS.items():
        if re.search(pattern, kernel, re.IGNORECASE):
            return kind
    return "other"


def kernels_of(work: Callable[[], object]) -> dict[str, Any]:
    """Return `ms` of all, `by_kind` and the `top` kernels of work that has been warmed up.

    On a CPU torch's operators stand for kernels.
    """
    synchronize()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] * CUDA)]) as found:
        work()
        synchronize()
    rows: list[tuple[float, int, str]] = []  # ms, calls, name
    for event in found.key_averages():
        on_device = event.device_type.name == "CUDA"
        if on_device != CUDA or getattr(event, "is_user_annotation", False):
            continue
        took = event.self_device_time_total if CUDA else event.self_cpu_time_total
        rows.append((took / 1e3, event.count, event.key))
    rows.sort(reverse=True)
    kinds: dict[str, float] = defaultdict(float)
    for ms, _, name in rows:
        kinds[kind_of(name)] += ms
    return {
        "ms": sum(kinds.values()),
        "by_kind": dict(kinds),
        "top": [
            {"ms": ms, "calls": calls, "kind": kind_of(name), "kernel": name[:NAME]}
            for ms, calls, name in rows[:TOP]
        ],
    }


def compilations() -> dict[str, Any]:
    """Return what torch has compiled in this process, and why again."""
    from torch._dynamo.utils import counters, get_compilation_metrics

    found = get_compilation_metrics()
    again = [f"{each.co_name}: {each.recompile_reason}" for each in found if each.recompile_reason]
    return {
        "frames": len(found),
        "graphs": counters["stats"]["unique_graphs"],
        "recompiled": again,
        "graph_breaks": dict(counters["graph_break"]),
    }
