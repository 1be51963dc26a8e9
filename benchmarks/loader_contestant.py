"""One contestant of `loader.py`, in a process of its own: reads batches for as long as it is told.

Run by `loader.py`: `python loader_contestant.py CONTESTANT SETTINGS`, SETTINGS as JSON. Says
`{"ready": versions}`, then answers each line on standard input, a number of CPU-seconds, with the
tokens that it read in about that time and the CPU-seconds of all threads that they took.
"""

import importlib
import importlib.metadata
import itertools
import json
import platform
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

Batches = Iterator[int]  # tokens of each batch


def ours(given: dict[str, Any]) -> tuple[Batches, str]:
    """As the trainer reads: a thread ahead of it."""
    from olmo_core.config.train import InstanceFilterConfig
    from olmo_core.data.loader import Loader
    from olmo_core.data.manifest import Manifest

    loader = Loader(
        manifest=Manifest.from_paths(given["paths"], dtype=given["dtype"]),
        sequence_length=given["sequence_length"],
        global_batch_size=given["batch_size"],
        seed=1,
        instance_filter=InstanceFilterConfig() if given["filter"] else None,
        document_eos=given["eos_token_id"] if given["documents"] else None,
        vocab_size=given["vocab_size"],
    )
    return (batch.input_ids.size for batch in loader.iterate()), ""


def numpy_memmap(given: dict[str, Any]) -> tuple[Batches, str]:
    """The least that a loader does: shuffled windows of memory maps, as int64."""
    length = given["sequence_length"]
    maps = [np.memmap(path, dtype=given["dtype"], mode="r") for path in given["paths"]]
    windows = [(m, w * length) for m, ids in enumerate(maps) for w in range(len(ids) // length)]

    def batches() -> Batches:
        for epoch in itertools.count():
            order = np.random.default_rng(epoch).permutation(len(windows))
            for start in range(0, len(order) - given["batch_size"], given["batch_size"]):
                part = [windows[w] for w in order[start : start + given["batch_size"]]]
                ids = np.stack([maps[m][place : place + length] for m, place in part])
                yield ids.astype(np.int64).size

    return batches(), ""


def ai2_olmo_core(given: dict[str, Any]) -> tuple[Batches, str]:
    """AI2's dataset and data loader, collator included, in the same process."""
    peer: Any = importlib.import_module("olmo_core.data")  # AI2's, not ours
    dataset = peer.NumpyFSLDatasetConfig(
        paths=given["paths"],
        sequence_length=given["sequence_length"],
        dtype=peer.NumpyDatasetDType(given["dtype"]),
        generate_doc_lengths=given["documents"],
        tokenizer=peer.TokenizerConfig(
            vocab_size=given["vocab_size"], eos_token_id=given["eos_token_id"], pad_token_id=1
        ),
        instance_filter_config=peer.InstanceFilterConfig() if given["filter"] else None,
        include_instance_metadata=False,
        work_dir=given["work"],
    ).build()
    loader = peer.NumpyDataLoaderConfig(
        global_batch_size=given["batch_size"] * given["sequence_length"],
        seed=1,
        num_workers=0,
        work_dir=given["work"],
        target_device_type="cpu",
    ).build(dataset)

    def batches() -> Batches:
        for epoch in itertools.count(1):
            loader.reshuffle(epoch)
            for batch in loader:
                yield batch["input_ids"].numel()
            loader.reset()

    return batches(), f", ai2-olmo-core {importlib.metadata.version('ai2-olmo-core')}"


CONTESTANTS = {"ours": ours, "numpy": numpy_memmap, "ai2-olmo-core": ai2_olmo_core}


def main() -> None:
    """Build the contestant, then answer line by line."""
    batches, versions = CONTESTANTS[sys.argv[1]](json.loads(sys.argv[2]))
    next(batches)  # what is built at the first batch is no part of the rate
    versions = f"Python {platform.python_version()}, numpy {np.__version__}{versions}"
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        tokens, start = 0, time.process_time()
        while time.process_time() - start < float(line):
            tokens += next(batches)
        print(json.dumps({"tokens": tokens, "cpu": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    main()
