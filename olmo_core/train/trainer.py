"""The training loop: one visible loop over batches, the same alone and on many ranks."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from olmo_core.checkpoint.mirror import Mirror
from olmo_core.checkpoint.save import Kind, Saver
from olmo_core.config.duration import Duration, last_step
from olmo_core.config.load import to_dict
from olmo_core.config.train import TrainConfig
from olmo_core.data.loader import Batch, Loader
from olmo_core.errors import Diverged, InputError, Stopped
from olmo_core.model.transformer import Transformer
from olmo_core.monitor import metrics
from olmo_core.monitor.energy import Energy
from olmo_core.monitor.mfu import peak_flops
from olmo_core.monitor.profiling import profiling
from olmo_core.monitor.straggler import LossTime, straggler_metrics
from olmo_core.monitor.tracking import Tracker
from olmo_core.optim.adamw import AdamW
from olmo_core.optim.schedule import build_schedule
from olmo_core.parallel import patience
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World
from olmo_core.run.job import Job
from olmo_core.train.cancel import Cancel
from olmo_core.train.guard import Guard
from olmo_core.train.host_memory import collecting
from olmo_core.train.in_loop import InLoopEvaluation
from olmo_core.train.saving import kind_due, last_kind, once_whole, saves_first
from olmo_core.train.state import WINDOW, State
from olmo_core.train.step import SUMS, Readings, autocast, forward_backward, lag_of

log = logging.getLogger("olmo")


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Everything that a step needs, built by `olmo_core.train.build`."""

    config: TrainConfig
    world: World
    loader: Loader
    model: Transformer
    optimizer: AdamW
    gradients: Gradients
    state: State
    resumed: bool
    job: Job | None  # of the first rank
    mirror: Mirror | None
    evaluation: InLoopEvaluation
    stop_requests: Callable[[], int]

    def __post_init__(self) -> None:
        config, world, state, batching = self.config, self.world, self.state, self.loader.batching
        duration = Duration.parse(config.max_duration)
        if duration.unit == "epochs":
            steps = batching.end_of(duration.value - 1)
        else:
            steps = duration.steps(config.tokens_per_step, None, batching.origin) or 0
        doubt = duration.doubt(config.tokens_per_step, batching.per_epoch)
        if self.job is not None and doubt:
            log.warning(doubt)
        self.schedule = build_schedule(config, steps, batching.origin, state.rewarmup_start)
        self.last_step = last_step(steps, config.stop_at)
        self.saver = Saver(config.save_folder, world, asynchronous=config.core.save_async)
        self.saver.whole_step = self._saved_step = state.step if self.resumed else None
        self.cancel = Cancel(
            config, requests=self.stop_requests, step=state.step, last_step=self.last_step
        )
        skip = config.core.skip_step
        self._kept_values = max(WINDOW, skip.window if skip else 0)
        self.guard = Guard(skip, state.history, world.device)
        self.readings = Readings(lag_of(world.device))
        self._first_step = state.step + 1
        self._asked = 0.0, 0.0  # ranks that are asked to stop, and at once
        self._tracker = Tracker(None, config.save_folder, {})
        self._loss_time = LossTime(world.device) if world.size > 1 else None
        self.energy = Energy(world, config.core.power_watts)
        peak = None
        if self.job is not None:  # only the first rank tells
            given, bf16 = config.speed_monitor.gpu_flops_available, config.precision == "amp_bf16"
            peak = peak_flops(world.device, bf16=bf16, given=given)
        self.speed = metrics.Speed(config, world.size, peak)

    def fit(self, tracker: Tracker) -> None:
        """Train to the end, or until asked to stop.

        Nothing in a step waits for the device: the host reads the values of a step when they are
        there, on a GPU while the next one is computed.

        Raises:
            Stopped: asked to; a checkpoint has been written.
            Diverged: a step's loss or gradient is not finite; its update was not made, nor any
                after it.
            InputError: a checkpoint could not be written, or the data are not what they were.
        """
        config, state, gradients = self.config, self.state, self.gradients
        schedule = self.schedule
        self._tracker = tracker
        reader = self.loader.iterate(
            state.step, rank=self.world.rank, world_size=self.world.size, stop_step=self.last_step
        )
        with (
            self.saver,
            contextlib.closing(reader),
            profiling(config, first=self.job is not None) as profiled,
            collecting(config.gen1_gc_interval) as collect,
        ):
            # The first step compiles and connects; groups of hybrid sharding begin with torch's 10.
            patience.set_patience(self.world.device, patience.PATIENCE)
            if self._saved_step is None and saves_first(config):
                self.save("sharded")
            self._evaluate_if_due()  # what a stop has cut off
            for batch, waited in timed(reader):
                gradients.zero()
                self._forward_backward(batch, waited)
                gradients.reduce(self.world)
                labels = gradients.sums[SUMS.index("labels")]
                bound = schedule.max_grad_norm(config.max_grad_norm, schedule.moment(state.step))
                norm = gradients.normalise(labels.clamp(min=1.0), bound)
                rate = schedule.learning_rate(schedule.moment(state.step + 1))
                self.optimizer.learning_rate = rate
                self._update(labels, norm, rate)
                self._read()
                self._save_if_due()
                self._evaluate_if_due()
                if self.cancel.over(state.step, self._asked[1]):
                    self._read(wait=True)
                    why = self.cancel.why(state.step)
                    raise Stopped(f"{why}; the checkpoint of step {self._saved_step} is whole")
                profiled()
                collect(state.step)
            if self._saved_step != state.step:
                self.save(last_kind(config))
            self._evaluate_if_due()
        # The first rank now writes and sends.
        patience.set_patience(self.world.device, patience.PATIENCE)

    def _forward_backward(self, batch: Batch, waited: float) -> None:
        """Add this rank's share of a step to the gradients and sums."""
        config, sums = self.config, self.gradients.sums
        with autocast(config.precision, self.world.device):
            forward_backward(
                self.model,
                batch,
                self.gradients,
                microbatch_size=config.device_train_microbatch_size,
                z_loss=config.z_loss,
                compiled=config.compile is not None,
                loss_time=self._loss_time,
            )
        if self._loss_time is not None:
            sums[len(SUMS) + self.world.rank] += self._loss_time.mean_seconds()
        stop, at_once = self.cancel.asked()
        for name, value in (
            ("stop", stop),
            ("stop_at_once", at_once),
            ("waited_seconds", waited),
            ("joules", self.energy.joules()),
            ("save_failed", self.saver.failed),
        ):
            if value:
                sums[SUMS.index(name)] += value

    def _update(self, labels: Tensor, norm: Tensor, rate: float) -> None:
        """Make the step's update, unless the guard leaves it out, and send its values off."""
        sums, state = self.gradients.sums, self.state
        loss = sums[SUMS.index("cross_entropy")] / labels.clamp(min=1.0)
        left_out, skipped = self.guard.judge(loss, norm, sums[SUMS.index("z_loss")], labels)
        self.optimizer.step(left_out)
        state.step += 1
        state.tokens += self.config.tokens_per_step
        values = torch.cat((torch.stack((loss, norm, skipped)), sums))
        self.readings.put(values, step=state.step, tokens=state.tokens, learning_rate=rate)

    def _read(self, *, wait: bool = False) -> None:
        """Take in the values of the steps that are due, or of all; refuse what is not finite."""
        state = self.state
        for known in self.readings.take(wait=wait):
            self._require_finite(known["cross_entropy"] + known["z_loss"], "loss", known["step"])
            self._require_finite(known["norm"], "gradient norm", known["step"])
            if known["save_failed"]:
                self.saver.finish()  # raises on all ranks: each learns of it, sooner or later
            spikes: dict[str, float] = {}
            if known["labels"]:
                spike = state.history.record(known["loss"], known["norm"], keep=self._kept_values)
                spikes = metrics.spike_metrics(state.history, spike)
            if known["step"] == self._first_step:  # done on all ranks: its sums are of them all
                patience.set_patience(self.world.device, patience.STEP_PATIENCE)
            state.joules += known["joules"]
            self._asked = known["stop"], known["stop_at_once"]
            waited = known["waited_seconds"] / self.world.size
            speed = self.speed.step_done(known["tokens"], waited)
            speed |= straggler_metrics(known["loss_seconds"])
            if self.job is not None:
                self._log_step(self.job, known, speed | spikes)

    def _require_finite(self, value: float, what: str, step: int) -> None:
        if math.isfinite(value):
            return
        with contextlib.suppress(InputError):  # logged when the loop is left
            self.saver.finish()
        whole = self.saver.whole_step
        back = (
            "The run has no checkpoint yet: begin again, with a lower rate or a longer warm-up"
            if whole is None
            else f"Go back to {self.config.save_folder}/checkpoints/step{whole}"
        )
        raise Diverged(f"the {what} of step {step} is {value}; its update was not made. {back}")

    def _save_if_due(self) -> None:
        """Save what the intervals ask for, and where the run is stopped; nothing after that."""
        if self.cancel.begun:
            return
        kind = kind_due(self.config, self.state.step)
        stopping = self.cancel.begins(self.state.step, self._asked[0])
        if stopping or kind is not None:
            self.save(kind or "ephemeral")
        if stopping:
            self.saver.finish()  # who asked may not wait for long

    def save(self, kind: Kind) -> None:
        """Begin to write a checkpoint of this step; what it replaces goes when it is whole."""
        self._read(wait=True)  # the step may not be finite, and the history belongs to it
        self.speed.pause()
        state = self.state
        content = state.to_dict(
            run_name=self.config.run_name,
            epoch=self.loader.batching.place(state.step)[0],
            order=self.loader.order_spec(),
            model=to_dict(self.config.model),
            world_size=self.world.size,
            threads=torch.get_num_threads(),
        )
        then = once_whole(self.config, state.step, self.mirror)
        self.saver.save(self.model, self.optimizer, content, kind=kind, then=then)
        self._saved_step = state.step

    def _evaluate_if_due(self) -> None:
        """Evaluate the weights as they are; those of the end once their checkpoint is begun."""
        step, last = self.state.step, self.state.step == self.last_step
        if self.cancel.begun or (last and self._saved_step != step):
            return
        if not self.evaluation.due(step, last=last):
            return
        self._read(wait=True)  # a step that is not finite ends the run before
        self.speed.pause()
        whole = self.evaluation.evaluate(
            self.model, step, stop_requests=self.stop_requests, tracker=self._tracker
        )
        if not whole:  # asked to stop: the next attempt begins at this step, and evaluates it
            if self._saved_step != step:
                self.save("ephemeral")
            self.saver.finish()
            if not self.cancel.begins(step, asking=1.0):
                raise Stopped(f"on request; the checkpoint of step {step} is whole")

    def _log_step(self, job: Job, known: dict[str, Any], others: dict[str, float]) -> None:
        config, step, last = self.config, known["step"], self.last_step
        losses = metrics.loss_metrics(known, z_loss=config.z_loss > 0)
        loss = losses.get("train/CrossEntropyLoss")
        size, url = self.world.size, self._tracker.url
        shown = metrics.step_status(
            known, others, loss=loss, last_step=last, world_size=size, url=url
        )
        job.progress(step, last, unit="steps", **shown)
        if step % config.console_log_interval and step != last:
            return
        groups, skips = len(self.optimizer.groups), config.core.skip_step is not None
        row = losses | metrics.update_metrics(known, groups=groups, skips=skips) | others
        joules = self.state.joules if self.energy.source else None
        row |= metrics.device_metrics(self.world.device, joules)
        job.metric({"step": step, **row})
        self._tracker.log(row, step)
        said = "no labels" if loss is None else f"loss {loss:.4f}"
        log.info("step %d/%d %s rate %.3g", step, last, said, known["learning_rate"])


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch, and the seconds that were waited for it."""
    start = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()
