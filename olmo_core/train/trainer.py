"""The training loop: one visible loop over batches, the same alone and on many ranks."""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from olmo_core.checkpoint.save import Kind, apply_retention, save_checkpoint
from olmo_core.config.train import Duration, TrainConfig
from olmo_core.data.loader import Batch, Loader
from olmo_core.model.transformer import Transformer
from olmo_core.optim.build import set_learning_rate
from olmo_core.optim.schedule import Schedule
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World
from olmo_core.run.job import Job, Stopped
from olmo_core.train.metrics import Speed, loss_metrics
from olmo_core.train.state import State
from olmo_core.train.step import SUMS, autocast, forward_backward
from olmo_core.train.tracking import Tracker

log = logging.getLogger("olmo")

_EXTRA_STEPS = 10  # OLMo's: past the end of max_duration, at the rate's floor


class Diverged(RuntimeError):
    """Loss or gradient is not a number; says at which step, and where to go back to."""


class Trainer:
    """Everything that a step needs, built by `olmo_core.train.run`."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        world: World,
        loader: Loader,
        model: Transformer,
        optimizer: torch.optim.Optimizer,
        gradients: Gradients,
        state: State,
        job: Job | None,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.config, self.world, self.loader = config, world, loader
        self.model, self.optimizer, self.state = model, optimizer, state
        self.job, self.stop_requested = job, stop_requested
        self.gradients = gradients
        duration = Duration.parse(config.max_duration)
        span = (config.tokens_per_step, loader.batches_per_epoch)
        self.max_steps = duration.steps(*span) or 0
        end = self.max_steps if config.scheduler.units == "steps" else duration.tokens(*span)
        self.schedule = Schedule(
            config=config.scheduler,
            peak=config.optimizer.learning_rate,
            end=config.scheduler.t_max or end or 0,
            bolted_on_at=state.bolted_on_at,
        )
        self.last_step = self.max_steps + _EXTRA_STEPS if config.stop_at is None else config.stop_at
        self.saved_step: int | None = None
        self.speed = Speed(config, world.size)
        self._deadline = time.monotonic() + (config.time_limit or math.inf)
        self._stop_step = state.step + (config.stop_after or math.inf)

    def moment(self, steps: int) -> float:
        """The schedule's clock after `steps` steps: steps or tokens."""
        return steps * (self.config.tokens_per_step if self._in_tokens else 1)

    @property
    def _in_tokens(self) -> bool:
        return self.config.scheduler.units == "tokens"

    def fit(self, tracker: Tracker) -> None:
        """Train to the end, or until asked to stop.

        Raises:
            Stopped: asked to; a checkpoint of the last whole step has been written.
            Diverged: a step's loss or gradient is not finite; its update was not made.
        """
        config, state, gradients = self.config, self.state, self.gradients
        reader = self.loader.iterate(
            state.step,
            rank=self.world.rank,
            world_size=self.world.size,
            stop_step=self.last_step,
        )
        with contextlib.closing(reader) as batches:
            for batch in batches:
                gradients.zero()
                self._forward_backward(batch)
                gradients.reduce(self.world)
                sums = self._read_sums()
                labels = max(sums["labels"], 1.0)
                bound = self.schedule.max_grad_norm(config.max_grad_norm, self.moment(state.step))
                norm = self._finite(gradients.normalise(labels, bound).item(), "gradient norm")
                rate = self.schedule.learning_rate(self.moment(state.step + 1))
                set_learning_rate(self.optimizer, rate)
                self.optimizer.step()
                state.step += 1
                state.tokens += config.tokens_per_step
                self._log_step(sums, labels, norm, rate, tracker)
                stopping = sums["stop"] > 0 and state.step < self.last_step
                self._save_if_due(stopping=stopping)
                if stopping:
                    raise Stopped
        if self.saved_step != state.step:
            self.save("unsharded" if config.save_interval_unsharded else "sharded")

    def _forward_backward(self, batch: Batch) -> None:
        """This rank's share of a step: gradients, sums, and whether it was asked to stop."""
        config, sums = self.config, self.gradients.sums
        with autocast(config.precision, self.world.device):
            forward_backward(
                self.model,
                batch,
                self.gradients,
                microbatch_size=config.device_train_microbatch_size,
                z_loss=config.z_loss,
            )
        asked = self.stop_requested() or time.monotonic() > self._deadline
        sums[SUMS.index("stop")] += asked or self.state.step + 1 >= self._stop_step

    def _read_sums(self) -> dict[str, float]:
        """The step's sums over all ranks; refuses a loss that is not finite."""
        sums = dict(zip(SUMS, self.gradients.sums.tolist(), strict=True))
        self._finite(sums["cross_entropy"] + sums["z_loss"], "loss")
        return sums

    def _finite(self, value: float, what: str) -> float:
        if math.isfinite(value):
            return value
        back = "no checkpoint yet" if self.saved_step is None else f"step{self.saved_step}"
        raise Diverged(
            f"the {what} of step {self.state.step + 1} is {value}; its update was not made. "
            f"Go back to {self.config.save_folder}/checkpoints: {back}"
        )

    def save(self, kind: Kind) -> Path:
        """Write a checkpoint of this step and drop those that are no longer kept."""
        self.speed.pause()
        state, config = self.state, self.config
        start = time.perf_counter()
        path = save_checkpoint(
            config.save_folder,
            self.world,
            self.model,
            self.optimizer,
            state.to_dict(
                run_name=config.run_name,
                epoch=state.step // self.loader.batches_per_epoch,
                order=self.loader.order_spec(),
                world_size=self.world.size,
                threads=torch.get_num_threads(),
            ),
            kind=kind,
        )
        self.saved_step = state.step
        if self.job is not None:
            apply_retention(
                config.save_folder,
                step=state.step,
                keep_sharded=config.save_num_checkpoints_to_keep,
                keep_unsharded=config.save_num_unsharded_checkpoints_to_keep,
            )
            log.info("saved %s in %.2f s", path, time.perf_counter() - start)
        return path

    def _save_if_due(self, *, stopping: bool) -> None:
        kind = kind_due(self.config, self.state.step)
        if kind is not None:
            self.save(kind)
        elif stopping:
            self.save("ephemeral")

    def _log_step(
        self, sums: dict[str, float], labels: float, norm: float, rate: float, tracker: Tracker
    ) -> None:
        state = self.state
        speed = self.speed.step_done(state.tokens)
        if self.job is None:
            return
        loss = sums["cross_entropy"] / labels
        pace = speed.get("throughput/device/tokens_per_second", 0.0) * self.world.size
        self.job.progress(
            state.step,
            self.last_step,
            unit="steps",
            message=f"loss {loss:.3f}, {pace:,.0f} tokens/s",
        )
        if state.step % self.config.console_log_interval and state.step != self.last_step:
            return
        row = {
            **loss_metrics(loss, sums["z_loss"] / labels if self.config.z_loss else None),
            "train/masked_instances": sums["masked_instances"],
            "optim/total_grad_norm": norm,
            **{
                f"optim/learning_rate_group{i}": rate
                for i in range(len(self.optimizer.param_groups))
            },
            **speed,
        }
        self.job.metric({"step": state.step, **row})
        tracker.log(row, state.step)
        log.info("step %d/%d loss %.4f rate %.3g", state.step, self.last_step, loss, rate)


def kind_due(config: TrainConfig, step: int) -> Kind | None:
    """The kind of checkpoint that the intervals ask for at `step`; the longest kept wins."""
    intervals: tuple[tuple[Kind, int | None, int], ...] = (
        (
            "unsharded",
            config.save_interval_unsharded,
            config.save_num_unsharded_checkpoints_to_keep,
        ),
        ("sharded", config.save_interval, config.save_num_checkpoints_to_keep),
        ("ephemeral", config.save_interval_ephemeral, 1),
    )
    for kind, interval, keep in intervals:
        if interval and keep != 0 and step % interval == 0:
            return kind
    return None
