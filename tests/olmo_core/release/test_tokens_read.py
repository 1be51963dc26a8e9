"""Tokens read are those of the windows that the loader gives, source by source."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.config.duration import Origin
from olmo_core.data.format import Header
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.errors import InputError
from olmo_core.files import write_json
from olmo_core.release.tokens_read import tokens_read

SIZES = {"books": 130, "code": 70, "web": 355}


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    """Three sources, none of a whole number of windows; 12 + 7 + 35 windows of ten tokens."""
    streams: list[Stream] = []
    for name, size in SIZES.items():
        (tmp_path / f"{name}.npy").write_bytes(np.arange(size, dtype="<u2").tobytes())
        header = Header(
            dtype="uint16",
            tokens=size,
            documents=1,
            vocab_size=400,
            tokenizer_sha256="0" * 64,
            eos_token_id=0,
        )
        write_json(tmp_path / f"{name}.json", header.to_dict())
        streams.append(Stream(name=name, ranges=(Range(path=f"{name}.npy", start=0, stop=size),)))
    manifest = Manifest(
        dtype="uint16",
        streams=tuple(streams),
        vocab_size=400,
        tokenizer_sha256="0" * 64,
        eos_token_id=0,
        root=tmp_path,
    )
    manifest.write(tmp_path / "manifest.json")
    return Loader(
        manifest=manifest, sequence_length=10, global_batch_size=4, seed=6, order="feistel"
    )


def naive(loader: Loader, first: int, last: int) -> dict[str, int]:
    """Every piece of every window of every step."""
    counts = Counter(dict.fromkeys(SIZES, 0))
    for step in range(first, last):
        for window in loader.instances(step).tolist():
            for piece in loader.data.pieces(window):
                counts[piece.path.removesuffix(".npy")] += piece.stop - piece.start
    return dict(counts)


@pytest.mark.parametrize("order", ["olmo", "feistel"])
@pytest.mark.parametrize("steps", [(0, 3), (0, 12), (0, 13), (0, 14), (5, 31), (7, 7)])
def test_every_window_of_every_step_is_counted(
    loader: Loader, steps: tuple[int, int], order: Any, tmp_path: Path
) -> None:
    loader = replace(loader, order=order)
    run = {"first_step": steps[0], "step": steps[1], "order": loader.order_spec()}
    read = tokens_read(tmp_path, run)
    assert read == naive(loader, *steps)
    assert sum(read.values()) == (steps[1] - steps[0]) * 40


def test_a_batch_size_that_changed_is_counted_from_there(loader: Loader, tmp_path: Path) -> None:
    later = loader.beginning_at(Origin(step=9, tokens=500, epoch=1, instance=21))
    run = {"first_step": 9, "step": 40, "order": later.order_spec()}
    assert tokens_read(tmp_path, run) == naive(later, 9, 40)


def test_another_manifest_or_order_is_refused(loader: Loader, tmp_path: Path) -> None:
    order = loader.order_spec()
    run = {"first_step": 0, "step": 1, "order": {**order, "version": 2}}
    with pytest.raises(InputError, match="feistel: version 2 is not known"):
        tokens_read(tmp_path, run)
    run["order"] = {**order, "manifest_sha256": "f" * 64}
    with pytest.raises(InputError, match=r"manifest\.json: sha256 .* but the run has read fff"):
        tokens_read(tmp_path, run)
