"""A sweep over many checkpoints: `olmo sweep` against one `lm-eval run` per checkpoint.

examples:
  make demo && python benchmarks/checkpoint_sweep.py             50 checkpoints: five minutes
  python benchmarks/checkpoint_sweep.py --checkpoints 8 --root FOLDER

The checkpoints are copies of one of the demo's stage 1, each with other noise in its weights, in a
root of their own. Each is scored on three tasks of lm-eval and on 20 sources of texts of the
language manual that every Python carries. Ours is `olmo sweep` from its start to its end, over
half of the checkpoints at a time; before, between and after them lm-eval's command scores one
checkpoint, a Hugging Face folder that was converted for it beforehand, on the same documents. The
ratio is the median of lm-eval's seconds to ours per checkpoint. Bounds: that ratio, and each score,
which is lm-eval's. The most memory that the sweep's process held at each checkpoint is printed too.
"""

import argparse
import json
import os
import pydoc_data.topics
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from assets.assemble import build_graph
from assets.graph import Graph
from assets.paths import root
from assets.recipe import load_recipe
from olmo_core import environment
from olmo_core.checkpoint.layout import list_checkpoints
from olmo_core.files import read_json, write_json

LEAST_RATIO = 5.0
CLOSE = 1e-4  # relative; windows of one batch are padded to other lengths
RECIPE = "checkpoint_sweep"
TASKS = ("arc_easy", "copa", "winogrande")
SOURCES = [f"topics{number:02d}" for number in range(20)]
BATCH_SIZE = 8


class Benchmark:
    """A root, a recipe and checkpoints in a folder of its own."""

    def __init__(self, folder: Path, demo: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.texts = write_texts(folder / "texts", options.characters)
        write_recipe(folder / "recipes" / RECIPE, self.texts, options.limit)
        self.environment = {
            **os.environ,
            environment.ROOT: str(folder / "root"),
            environment.RECIPES: str(folder / "recipes"),
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
        }
        os.environ.update(self.environment)
        graph = build_graph(load_recipe(RECIPE))
        self.tokenizer = take_tokenizer(graph, newest(demo / "tokenizer"))
        self.source = list_checkpoints(newest(demo / "stage1"))[-1]
        self.run = graph.folder(root(), "stage1") / graph.fingerprints["stage1"].version
        self.run.mkdir(parents=True)
        shutil.copyfile(self.source.path.parents[1] / "config.yaml", self.run / "config.yaml")
        write_tasks(folder / "tasks", self.texts, options.limit, folder)

    def save(self, first: int, count: int) -> None:
        """Save checkpoints of the steps `first`, `first` + 1, …: the source's with noise."""
        import torch

        from olmo_core.checkpoint.index import read_into
        from olmo_core.checkpoint.save import Saver
        from olmo_core.checkpoint.state import state_of
        from olmo_core.checkpoint.weights import read_model
        from olmo_core.config.load import load
        from olmo_core.model.transformer import Transformer
        from olmo_core.optim.adamw import AdamW, Group
        from olmo_core.parallel.world import World

        model = Transformer(read_model(load(self.run / "config.yaml"), str(self.run)))
        optimizer = AdamW(
            [Group(parameters=[*model.parameters()], weight_decay=0.0)], learning_rate=1e-3
        )
        with Saver(self.run, World(device=torch.device("cpu")), asynchronous=False) as saver:
            for step in range(first, first + count):
                read_into(state_of(model, None), self.source.path / "model_and_optim")
                torch.manual_seed(step)
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.add_(torch.randn_like(parameter), alpha=1e-3)
                train = {**self.source.read_train(), "step": step}
                saver.save(model, optimizer, train, kind="sharded")

    def ours(self) -> float:
        """Sweep what lacks an evaluation; return the seconds."""
        return self._seconds([sys.executable, "-m", "pipelines.cli.main", "sweep", RECIPE], "ours")

    def lm_eval(self, step: int) -> float:
        """Score a checkpoint with lm-eval's own command; return the seconds."""
        from olmo_core.evals.checkpoint import export_checkpoint

        where = self.folder / "peer" / str(step)
        export_checkpoint(self.run / "checkpoints" / f"step{step}", self.tokenizer, where)
        command = [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"),
            *("--model_args", f"pretrained={where / 'export'},dtype=float32"),
            *("--tasks", ",".join([*TASKS, *SOURCES])),
            *("--include_path", str(self.folder / "tasks"), "--batch_size", str(BATCH_SIZE)),
            *("--output_path", str(where / "scores.json")),
            *("--limit", str(self.options.limit)),
        ]
        return self._seconds(command, "lm-eval")

    def _seconds(self, command: list[str], name: str) -> float:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            start = time.perf_counter()
            done = subprocess.run(command, env=self.environment, stdout=output, stderr=output)
            seconds = time.perf_counter() - start
        if done.returncode:
            sys.stderr.write(log.read_text()[-3000:])
            raise SystemExit(f"{name}: exit code {done.returncode}")
        return seconds

    def apart(self, step: int) -> float:
        """Return the largest relative distance of a checkpoint's scores from lm-eval's."""
        from olmo_core.evals.rows import read_rows

        [path] = (self.folder / "peer" / str(step)).glob("scores*.json")
        theirs: dict[str, dict[str, Any]] = read_json(path)["results"]
        found = (root() / RECIPE).glob(f"checkpoint_*/stage1@step{step}/*/rows.parquet")
        values = {
            (row["task"].rpartition("/")[2], row["metric"]): row["value"]
            for path in found
            for row in read_rows(path)
        }
        pairs = [(values[task, "acc"], theirs[task]["acc,none"]) for task in TASKS]
        for name in SOURCES:
            pairs.append((values[name, "bits_per_byte"], theirs[name]["bits_per_byte,none"]))
        return max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)


def peaks_megabytes(first: int, last: int) -> list[float]:
    """Return the most memory that the sweep's process held at each of these checkpoints."""
    found = (root() / RECIPE).glob("checkpoint_*/*/*/result.json")
    results = [read_json(path) for path in found]
    peaks: dict[int, float] = {}
    for result in results:
        step = int(result["partition"].rpartition("@step")[2])
        peaks[step] = max(peaks.get(step, 0.0), result["peak_memory_bytes"] / 1e6)
    return [peaks[step] for step in range(first, last + 1)]


def newest(asset: Path) -> Path:
    """Return the run of an asset that was made last."""
    runs = sorted(asset.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise SystemExit(f"{asset}: no run; run `make demo` first, or name another --root")
    return runs[-1].parent


def take_tokenizer(graph: Graph, made: Path) -> Path:
    """Copy the demo's tokenizer to where the recipe looks for its own; return the folder."""
    identity = graph.fingerprints["tokenizer"]
    folder = graph.folder(root(), "tokenizer") / identity.version
    shutil.copytree(made, folder)
    write_json(
        folder / "result.json",
        {**read_json(made / "result.json"), "fingerprint": identity.value},
    )
    return folder


def write_texts(folder: Path, characters: int) -> dict[str, Path]:
    """Write a file of documents for each source: pieces of the language manual."""
    folder.mkdir()
    manual = "\n".join(pydoc_data.topics.topics.values())
    found: dict[str, Path] = {}
    for number, name in enumerate(SOURCES):
        start = len(manual) * number // len(SOURCES)
        lengths = (characters // 8, characters // 4, characters - characters // 8 - characters // 4)
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for length in lengths:
                file.write(json.dumps({"text": manual[start : start + length]}) + "\n")
                start += length
        found[name] = path
    return found


def write_recipe(folder: Path, texts: dict[str, Path], limit: int) -> None:
    """Write the demo with other evaluations."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("extends: demo\n")
    tasks = [{"name": name, "limit": limit, "limit_to": "first"} for name in TASKS]
    sources = {name: [str(path)] for name, path in texts.items()}
    sets = [{"name": "manual", "kind": "documents", "sources": sources}]
    evals = {
        "downstream": {"batch_size": BATCH_SIZE, "tasks": tasks},
        "perplexity": {"sets": sets, "bytes_per_source": None},
    }
    (folder / "evals.yaml").write_text(yaml.safe_dump(evals))


def write_tasks(folder: Path, texts: dict[str, Path], limit: int, cache: Path) -> None:
    """Write lm-eval's tasks: its own, with data that is here, and one for each source."""
    from olmo_core.config.evals import TaskConfig
    from olmo_core.evals.task_data import build_task, write_shadows

    tasks = [build_task(TaskConfig(name=name), cache / "data") for name in TASKS]
    write_shadows(tasks, folder, datasets_cache=cache / "datasets")
    for name, path in texts.items():
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(path)},
                "cache_dir": str(cache / "datasets"),
            },
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": metric} for metric in ("word_perplexity", "bits_per_byte")],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))


def main() -> None:
    """Print the seconds of each part, and the ratio; fail below the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="of the demo's results; default: OLMO_ROOT")
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--limit", type=int, default=10, help="documents of a task")
    parser.add_argument("--characters", type=int, default=2500, help="of a source's texts")
    options = parser.parse_args()
    demo = (options.root or root()) / "demo"
    with tempfile.TemporaryDirectory() as name:
        bench = Benchmark(Path(name), demo, options)
        parts = [options.checkpoints // 2, options.checkpoints - options.checkpoints // 2]
        ours: list[float] = []
        theirs: list[float] = []
        apart = 0.0
        step = 1
        for count in parts:
            bench.save(step, count)
            theirs.append(bench.lm_eval(step))
            ours.append(bench.ours())
            apart = max(apart, bench.apart(step))
            peaks = peaks_megabytes(step, step + count - 1)
            told = ", ".join(f"{peak:.0f}" for peak in peaks)
            print(f"MB held at each checkpoint: {told}")
            print(f"lm-eval {theirs[-1]:.1f} s per checkpoint; {count} of ours {ours[-1]:.1f} s")
            print(f"largest relative distance of a score from lm-eval's: {apart:.1e}", flush=True)
            step += count
        theirs.append(bench.lm_eval(step - 1))
        apart = max(apart, bench.apart(step - 1))
    each = sum(ours) / options.checkpoints
    ratio = statistics.median(theirs) / each
    print(f"lm-eval run: {', '.join(f'{seconds:.1f}' for seconds in theirs)} s per checkpoint")
    print(f"olmo sweep: {sum(ours):.1f} s, {each:.2f} s per checkpoint; {ratio:.1f} times faster")
    if apart > CLOSE or ratio < LEAST_RATIO:
        raise SystemExit(f"expected at most {CLOSE}, and at least {LEAST_RATIO} times")


if __name__ == "__main__":
    main()
