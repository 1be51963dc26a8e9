"""A mix of three small sources, as a loader reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from olmo_core.data.format import Header
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.files import write_json

SIZES = {"books": 1204, "code": 607, "web": 3109}  # 120 + 60 + 310 windows of ten tokens, and tails


def loader(
    folder: Path,
    sizes: Mapping[str, int] = SIZES,
    *,
    size: int = 4,
    order: Any = "feistel",
) -> Loader:
    """Sources of so many tokens each, by name."""
    streams: list[Stream] = []
    for name, tokens in sizes.items():
        (folder / f"{name}.npy").write_bytes(np.arange(tokens, dtype="<u2").tobytes())
        header = Header(
            dtype="uint16",
            tokens=tokens,
            documents=1,
            vocab_size=4000,
            tokenizer_sha256="0" * 64,
            eos_token_id=0,
        )
        write_json(folder / f"{name}.json", header.to_dict())
        streams.append(Stream(name=name, ranges=(Range(path=f"{name}.npy", start=0, stop=tokens),)))
    manifest = Manifest(
        dtype="uint16",
        streams=tuple(streams),
        vocab_size=4000,
        tokenizer_sha256="0" * 64,
        eos_token_id=0,
        root=folder,
    )
    manifest.write(folder / "manifest.json")
    return Loader(
        manifest=manifest, sequence_length=10, global_batch_size=size, seed=6, order=order
    )
