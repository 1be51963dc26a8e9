"""Peak memory and time of an export in shards, of a model of OLMo 2 1B's shape.

Random weights are written in a process of their own; then the asset `export` runs as it does in the
graph: shards, index, the comparison with transformers, samples. What is bounded is the memory that
cannot be given back; pages of files that are mapped count, too (`ru_maxrss`).

    python benchmarks/export_memory.py --folder /tmp/export
    python benchmarks/export_memory.py --folder /tmp/export --dtype bfloat16 --shard 250e6

Prints JSON: peak in bytes, the bound (1.5 shards and 1 GiB), seconds of each part.
"""

import argparse
import json
import multiprocessing
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

RECIPE = Path(__file__).parents[1] / "pipelines" / "recipes" / "olmo2_1b" / "stage1.yaml"


def write_model(folder: Path) -> None:
    """Write a finished run with random weights, a tensor at a time."""
    import torch

    from olmo_core.checkpoint.tensor_file import TensorSpec, write_tensors
    from olmo_core.checkpoint.weights import read_model
    from olmo_core.config.load import load, to_dict
    from olmo_core.files import write_json
    from olmo_core.model.transformer import Transformer

    recipe = load(RECIPE)
    with torch.device("meta"):
        model = Transformer(read_model(recipe, str(RECIPE)))
    specs = {
        name: TensorSpec(dtype="F32", shape=tuple(parameter.shape))
        for name, parameter in model.named_parameters()
    }
    generator = np.random.default_rng(0)

    def data(name: str) -> memoryview:
        shape = specs[name].shape
        values = generator.standard_normal(shape, np.float32) * (1 if len(shape) == 1 else 0.02)
        return values.astype(np.float32).reshape(-1).view(np.uint8).data

    write_tensors(folder / "model" / "model.safetensors", specs, data)
    (folder / "model" / "config.yaml").write_text(
        yaml.safe_dump({"model": to_dict(recipe["model"])})
    )
    report = {"data": {"step": 1, "tokens": 1}}
    write_json(folder / "result.json", {"schema_version": 1, "report": report})


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level tokenizer without merges: the vocabulary's size does not matter here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from olmo_core.files import write_json

    folder.mkdir(parents=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<|endoftext|>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"eos_token": "<|endoftext|>"})
    data = {"vocab_size": len(vocabulary), "eos_token_id": 0, "pad_token_id": None}
    write_json(folder / "result.json", {"schema_version": 1, "report": {"data": data}})


def export(folder: Path, inputs: dict[str, Path], section: dict[str, Any]) -> dict[str, Any]:
    """Run the asset in this process; return its peak memory and times."""
    from olmo_core.config.release import ExportConfig
    from olmo_core.release import export
    from olmo_core.run.folder import RunFolder
    from olmo_core.run.job import Job

    start = time.perf_counter()
    with Job.open(folder) as job:
        job.finish(export.make(ExportConfig(repository="someone/large", **section), inputs, job))
    (row,) = RunFolder(folder).read_result()["report"]["tables"]["models"]
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "bound_bytes": int(1.5 * section["max_shard_bytes"]) + 2**30,
        "seconds": round(time.perf_counter() - start, 1),
        "parts": {name: round(seconds, 1) for name, seconds in job.timings.items()},
        **{key: row[key] for key in ("files", "bytes", "max_relative_error")},
    }


def _child(*arguments: Any) -> None:
    print(json.dumps(export(*arguments), indent=1), flush=True)


def main() -> None:
    """Write a model where there is none, export it, and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="needs 12 GB; the model is kept")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--shard", type=float, default=500e6, metavar="BYTES")
    parser.add_argument("--prompts", type=int, default=0, help="samples of four tokens each")
    arguments = parser.parse_args()
    made, target = arguments.folder / "made", arguments.folder / "export"
    inputs = {"stage1": made / "stage1", "tokenizer": made / "tokenizer"}
    spawn = multiprocessing.get_context("spawn")  # each with a peak of its own
    if not (inputs["stage1"] / "result.json").exists():
        shutil.rmtree(made, ignore_errors=True)
        _run(spawn.Process(target=write_model, args=(inputs["stage1"],)))
        write_tokenizer(inputs["tokenizer"])
    shutil.rmtree(target, ignore_errors=True)
    section = {
        "dtype": arguments.dtype,
        "max_shard_bytes": int(arguments.shard),
        "sample_prompts": ("A language model",) * arguments.prompts,
        "sample_tokens": 4,
    }
    _run(spawn.Process(target=_child, args=(target / "0", inputs, section)))


def _run(process: Any) -> None:
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
