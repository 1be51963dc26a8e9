"""Train, and at one moment die by SIGKILL (`kills.py`) or misbehave.

Run by the tests in processes of their own.

`GIVEN` is a global that whoever runs this file gives: the keywords of `run`.
"""

import hashlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from olmo_core.data.loader import Batch
from olmo_core.parallel import patience
from olmo_core.parallel.gradients import Gradients, ReplicatedGradients
from olmo_core.train import trainer
from olmo_core.train.__main__ import main
from olmo_core.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
import kills
from kills import before

KILL = "kill: "


def poison(self: Trainer, *_: object, **__: object) -> None:
    with torch.no_grad():
        self.model.lm_head.weight[5, 5] = float("nan")


def read_a_step_late() -> None:
    """As on a GPU."""
    trainer.lag_of = lambda device: 1


def digest(model: torch.nn.Module) -> str:
    weights = [parameter.detach().numpy().tobytes() for parameter in model.parameters()]
    return hashlib.sha256(b"".join(weights)).hexdigest()


def note_weights_at_the_end(noted: list[str]) -> None:
    """Write down beside the run whether its last weights are those noted before."""
    original = Trainer.fit

    def fit(self: Trainer, *arguments: Any) -> None:
        try:
            original(self, *arguments)
        finally:
            same = noted == [digest(self.model)]
            (self.config.save_folder / "weights.txt").write_text("same" if same else "changed")

    setattr(Trainer, "fit", fit)  # noqa: B010 (for the type checker)


def note_instances() -> None:
    """Write down, one line per step and rank, which instances it learns from, and their tokens."""
    original = Trainer._forward_backward

    def noting(self: Trainer, batch: Batch, *more: Any) -> None:
        row = {
            "step": self.state.step + 1,
            "rank": self.world.rank,
            "instances": batch.instances.tolist(),
            "tokens": batch.input_ids.tolist(),
            "masked": (~batch.instance_mask).tolist(),
        }
        with (self.config.save_folder / "instances.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        original(self, batch, *more)

    setattr(Trainer, "_forward_backward", noting)  # noqa: B010 (for the type checker)


def in_evaluation(number: int, act: Callable[[], None], *, here: bool = True) -> None:
    """Act when the model scores the first batch of an evaluation, counted from 1."""
    from olmo_core.evals.in_loop import evaluators, ranks

    evaluations = [0.0]
    undisturbed, score_batch = evaluators.undisturbed, ranks.score_batch

    def counting(*arguments: Any) -> Any:
        evaluations[0] += 1
        return undisturbed(*arguments)

    def acting(*arguments: Any, **more: Any) -> Any:
        if evaluations[0] == number and here:
            evaluations[0] += 0.5  # once
            act()
        return score_batch(*arguments, **more)

    evaluators.undisturbed, ranks.score_batch = counting, acting


def no_device() -> None:
    raise OSError("no device")


def arrange_an_evaluation(moment: str) -> None:
    if moment.startswith("SIGTERM in the "):
        number = {"first": 1, "second": 2}[moment.split()[3]]
        in_evaluation(number, lambda: os.kill(os.getpid(), signal.SIGTERM))
    else:
        rank = moment.removeprefix("the first evaluation fails").removeprefix(" on rank ")
        in_evaluation(1, no_device, here=rank in ("", os.environ.get("RANK")))


def note_patience() -> None:
    """Write down beside the run its steps, and the minutes that ranks then wait for each other."""
    noted: list[str] = []
    fit, reduce = Trainer.fit, ReplicatedGradients.reduce

    def fit_and_write(self: Trainer, *arguments: Any) -> None:
        fit(self, *arguments)
        (self.config.save_folder / "patience.txt").write_text(" ".join(noted))

    def noting_step(self: ReplicatedGradients, *arguments: Any) -> None:
        noted.append("step")
        reduce(self, *arguments)

    def noting_limit(device: torch.device, limit: timedelta) -> None:
        noted.append(f"{limit.total_seconds() / 60:.0f}")

    setattr(Trainer, "fit", fit_and_write)  # noqa: B010 (for the type checker)
    setattr(ReplicatedGradients, "reduce", noting_step)  # noqa: B010
    patience.set_patience = noting_limit


def poison_read_late() -> None:
    noted: list[str] = []

    def poison_and_note(self: Trainer) -> None:
        poison(self)
        noted.append(digest(self.model))

    read_a_step_late()
    before(Trainer, "_save_if_due", poison_and_note, call=5)
    note_weights_at_the_end(noted)


def arrange(moment: str) -> None:
    if " + " in moment:
        for each in moment.split(" + "):
            arrange(each)
    elif moment.startswith(KILL):
        kills.set_up(moment.removeprefix(KILL), int(os.environ.get("WORLD_SIZE", "1")))
    elif moment == "no space in step 8":
        kills.no_space_in_step_8()
    elif moment == "an upload that waits for the last step":
        kills.in_a_file_sent("step4/train.json", kills.once_a_step_is_logged(12))
    elif moment == "no line in step 12":
        kills.no_line_in_step_12()
    elif moment in ("SIGTERM in step 6", "SIGINT in step 6"):
        number = signal.Signals[moment.split()[0]]
        before(trainer, "forward_backward", lambda *_, **__: os.kill(os.getpid(), number),
               call=6)  # fmt: skip
    elif moment == "note instances":
        note_instances()
    elif moment == "read a step late":
        read_a_step_late()
    elif moment == "note patience, read a step late":
        note_patience()
        read_a_step_late()
    elif moment == "NaN in step 6, read a step late":
        poison_read_late()
    elif "evaluation" in moment:
        arrange_an_evaluation(moment)
    elif moment.startswith("spike in call "):
        before(Gradients, "normalise", lambda self, *_: self.scale_(torch.tensor(1e3)),
               call=int(moment.removeprefix("spike in call ")))  # fmt: skip
    elif moment == "NaN in step 6":
        before(Trainer, "_save_if_due", poison, call=5)
    elif moment == "infinite gradient in step 6":
        before(ReplicatedGradients, "normalise",
               lambda self, *_: self.values[3].fill_(math.inf), call=6)  # fmt: skip
    elif moment:
        raise ValueError(moment)


def run(arguments: list[str], moment: str, environment: dict[str, str], said: str) -> None:
    """Train as from the command line; what it prints to stderr is appended to the file `said`."""
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    arrange(moment)
    main(arguments)


if __name__ == "__main__":
    run(**globals()["GIVEN"])
