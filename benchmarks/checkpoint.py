"""What a checkpoint costs: processor time of a save, and training time lost to saving beside it.

examples:
  python benchmarks/checkpoint.py                      both bars, about four minutes on two cores
  python benchmarks/checkpoint.py --saves=0            the cost of a save alone, half a minute
  python benchmarks/checkpoint.py --folder=/mnt/disk   on another disk

1. Processor time of a save (`Saver`, until the checkpoint is whole, digests included) over that of
   torch's plain `dcp.save` of the same tensors plus one SHA-256 pass over its files. The two take
   turns in one process; the ratio is that of the medians. Bar: at most 1.2.
2. What an asynchronous save every ten steps takes from training: how long training waits for the
   copy, and how much longer than the median of the others those steps are beside which a checkpoint
   is written; over the time of ten steps. Bar: less than 5%.

The model is OLMo's 60M shape (d 512, 8 layers, 85 million parameters with both tables) with AdamW's
moments: 1.02 GB, float32.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the training command

import numpy as np
import torch
from olmo2 import batch_of_all, model_config
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.state import state_of
from olmo_core.config.optim import OptimizerConfig
from olmo_core.config.train import TrainConfig
from olmo_core.files import sha256_file
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.optim.adamw import build_optimizer
from olmo_core.parallel.prepare import prepare
from olmo_core.parallel.world import World
from olmo_core.train.step import SUMS, forward_backward

INTERVAL = 10  # steps from one save to the next
STEPS_ALONE = 3  # measured after each save; the other steps until the next would be like them
CPU_BAR, TIME_BAR = 1.2, 0.05
SEQUENCE_LENGTH = 1024
SHAPE = {
    "d_model": 512,
    "n_heads": 8,
    "n_layers": 8,
    "feed_forward_size": 2048,
    "vocab_size": 50_304,
    "sequence_length": SEQUENCE_LENGTH,
}


class Training:
    """A model, its optimizer and a step, put together as `olmo_core.train` does."""

    def __init__(self, batch_tokens: int) -> None:
        config = TrainConfig(
            model=model_config(SHAPE),
            optimizer=OptimizerConfig(name="adamw", learning_rate=1e-4),
            precision="fp32",
        )
        self.world = World(device=torch.device("cpu"))
        self.model = Transformer(config.model)
        self.gradients = prepare(self.model, config, self.world, sums=len(SUMS))
        initialise(self.model, config.seed)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.steps, self.rows = 0, batch_tokens // SEQUENCE_LENGTH

    def step(self) -> None:
        """One update on random tokens."""
        size = (self.rows, SEQUENCE_LENGTH)
        ids = np.random.default_rng(self.steps).integers(0, SHAPE["vocab_size"], size)
        batch = batch_of_all(ids)
        self.gradients.zero()
        forward_backward(self.model, batch, self.gradients, microbatch_size=self.rows, z_loss=1e-5)
        self.gradients.reduce(self.world)
        self.gradients.normalise(self.gradients.sums[2], 1.0).item()
        self.optimizer.step()
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return state_of(self.model, self.optimizer.state)

    def save(self, saver: Saver) -> None:
        """As the trainer does; the checkpoint before goes once this one is whole."""
        train = {"step": self.steps, "order": {}}
        before = saver.run / "checkpoints" / f"step{saver.whole_step}"
        saver.save(
            self.model,
            self.optimizer,
            train,
            kind="ephemeral",
            then=lambda: shutil.rmtree(before, ignore_errors=True),
        )


def plain_save(state: dict[str, Any], folder: Path) -> None:
    """What the cost is compared with: torch's save, then one SHA-256 pass over its files."""
    dcp_save(state, checkpoint_id=folder)
    for path in sorted(folder.iterdir()):
        sha256_file(path)


def timed(act: Callable[[], None]) -> tuple[float, float]:
    """Processor seconds of the whole process, and seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    act()
    return time.process_time() - cpu, time.perf_counter() - wall


def cost_of_a_save(training: Training, folder: Path, rounds: int) -> float:
    """Print a row a contestant; the ratio of the medians of processor time."""
    saver = Saver(folder / "ours", training.world, asynchronous=True)

    def ours() -> None:
        training.save(saver)
        saver.finish()
        training.steps += 1

    def plain() -> None:
        plain_save(training.state(), folder / "plain")

    contestants: dict[str, Callable[[], None]] = {"plain": plain, "ours": ours}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for name in ["plain", "ours"] * (rounds + 1):
        results[name].append(timed(contestants[name]))
        # each writes into the memory that the other's files have left: new memory costs more
        for path in (folder / "plain", folder / "ours" / "checkpoints"):
            shutil.rmtree(path, ignore_errors=True)
    for rows in results.values():
        del rows[0]  # the first save allocates
    print(f"\ncost of a save, median of {rounds}    CPU-seconds   seconds")
    cpu: dict[str, float] = {}
    for name, title in (("plain", "torch DCP + SHA-256 pass"), ("ours", "Saver, until whole")):
        cpu[name] = statistics.median(row[0] for row in results[name])
        wall = statistics.median(row[1] for row in results[name])
        print(f"  {title:<28}{cpu[name]:>11.2f}{wall:>10.2f}")
    return cpu["ours"] / cpu["plain"]


def time_lost(training: Training, folder: Path, saves: int) -> float:
    """Print what a save adds, in parts; its share of the time of the steps until the next one."""
    saver = Saver(folder / "beside", training.world, asynchronous=True)
    training.save(saver)  # allocates, as a run's first save does
    saver.finish()
    training.step()
    stalls: list[float] = []
    beside: list[float] = []
    alone: list[float] = []
    for done in range(1, saves + 1):
        stalls.append(timed(lambda: training.save(saver))[1])
        saved = training.steps
        while len(alone) < STEPS_ALONE * done:
            kind = alone if saver.whole_step == saved else beside
            kind.append(timed(training.step)[1])
        saver.finish()
    step = statistics.median(alone)
    slower = sum(seconds - step for seconds in beside) / saves
    stall = statistics.mean(stalls)
    print(f"\na step of {training.rows * SEQUENCE_LENGTH} tokens, median of {len(alone)}")
    print(f"  alone                       {step:>11.2f} s")
    print(f"a save, mean of {saves}")
    print(f"  training waits for the copy {stall:>11.2f} s")
    print(
        f"  the steps beside it         {slower:>11.2f} s   longer, all of them "
        f"({len(beside) / saves:.1f} a save)"
    )
    return (stall + slower) / (INTERVAL * step)


def main() -> int:
    """Run both; exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="of the training (default: 2)")
    parser.add_argument("--rounds", type=int, default=9, help="saves of each kind (default: 9)")
    parser.add_argument("--saves", type=int, default=6, help="beside training (default: 6)")
    parser.add_argument("--batch_tokens", type=int, default=2048, help="of a step (default: 2048)")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", module="torch.distributed.checkpoint")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{options.threads} threads, torch {torch.__version__}, Python {platform.python_version()}"
    )
    missed = False
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="olmo-checkpoint-") as folder:
        training = Training(options.batch_tokens)
        size = sum(tensor.nbytes for tensor in training.state().values())
        print(f"{size / 1e9:.2f} GB of parameters and moments, in {folder}")
        if options.rounds:
            ratio = cost_of_a_save(training, Path(folder), options.rounds)
            print(f"ratio {ratio:.2f}   bar: at most {CPU_BAR}")
            missed |= ratio > CPU_BAR
        if options.saves:
            lost = time_lost(training, Path(folder), options.saves)
            print(f"lost {lost:.1%} of step time   bar: less than {TIME_BAR:.0%}")
            missed |= lost >= TIME_BAR
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
