"""The training loop: one visible loop over batches, the same alone and on many ranks."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from olmo_core.checkpoint.mirror import Mirror
from olmo_core.checkpoint.save import Kind, Saver
from olmo_core.config.duration import Duration, last_step
from olmo_core.config.load import to_dict
from olmo_core.config.train import TrainConfig
from olmo_core.data.loader import Batch, Loader
from olmo_core.errors import ConfigError, InputError, Stopped
from olmo_core.model.transformer import Transformer
from olmo_core.monitor.energy import Energy
from olmo_core.monitor.metrics import (
    Speed,
    device_metrics,
    energy_metrics,
    loss_metrics,
    spike_metrics,
    step_status,
    update_metrics,
)
from olmo_core.monitor.mfu import peak_flops
from olmo_core.monitor.profiling import profiling
from olmo_core.monitor.tracking import Tracker
from olmo_core.optim.adamw import AdamW
from olmo_core.optim.schedule import Schedule
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World
from olmo_core.run.job import Job
from olmo_core.train.cancel import Cancel
from olmo_core.train.garbage import collecting
from olmo_core.train.guard import Guard, SkipStep
from olmo_core.train.readings import Readings, StepRecord, lag_of
from olmo_core.train.saving import kind_due, last_kind, once_whole, saves_first
from olmo_core.train.spikes import WINDOW
from olmo_core.train.state import State
from olmo_core.train.step import SUMS, autocast, forward_backward

log = logging.getLogger("olmo")

_READ = (*SUMS, "loss", "norm", "skipped")  # what the host reads of a step


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
        optimizer: AdamW,
        gradients: Gradients,
        state: State,
        resumed: bool,
        job: Job | None,
        mirror: Mirror | None,
        stop_requests: Callable[[], int],
    ) -> None:
        self.config, self.world, self.loader = config, world, loader
        self.model, self.optimizer, self.state, self.job = model, optimizer, state, job
        self.gradients, self.mirror = gradients, mirror
        duration = Duration.parse(config.max_duration)
        per_step, batching = config.tokens_per_step, loader.batching
        if duration.unit == "epochs":
            self.max_steps = batching.end_of(int(duration.value) - 1)
        else:
            self.max_steps = duration.steps(per_step, None, batching.origin) or 0
        in_tokens = duration.value if duration.unit == "tokens" else self._tokens(self.max_steps)
        end = in_tokens if self._in_tokens else self.max_steps
        if job is not None and (doubt := duration.doubt(per_step, loader.batches_per_epoch)):
            log.warning(doubt)
        peak = config.optimizer.learning_rate
        try:  # epochs are known by now
            config.scheduler.refuse_unreachable(peak=peak, step=1, end=end)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.schedule = Schedule(
            config=config.scheduler,
            peak=peak,
            end=config.scheduler.t_max or end or 0,
            rewarmup_start=state.rewarmup_start,
        )
        self.last_step = last_step(self.max_steps, config.stop_at)
        self.saver = Saver(config.save_folder, world, asynchronous=config.core.save_async)
        self.saver.whole_step = self._saved_step = state.step if resumed else None
        self.cancel = Cancel(
            config, requests=stop_requests, step=state.step, last_step=self.last_step
        )
        skip = config.core.skip_step
        self._kept_values = max(WINDOW, skip.window if skip else 0)
        self.guard = Guard(
            None if skip is None else SkipStep(skip, state.history, world.device), world.device
        )
        self.readings = Readings(lag_of(world.device))
        self._asked = 0.0, 0.0  # ranks that are asked to stop, and at once
        self._tracker = Tracker(None, config.save_folder, {})
        self.energy = Energy(world, config.core.power_watts)
        self.speed = Speed(config, world.size, self._peak_flops())

    def moment(self, steps: int) -> float:
        """The schedule's clock after `steps` steps: steps or tokens."""
        return self._tokens(steps) if self._in_tokens else steps

    def _tokens(self, steps: int) -> int:
        """Tokens seen in so many steps."""
        return self.loader.batching.origin.tokens_at(steps, self.config.tokens_per_step)

    @property
    def _in_tokens(self) -> bool:
        return self.config.scheduler.units == "tokens"

    def _peak_flops(self) -> float | None:
        if self.job is None:  # only the first rank tells
            return None
        given = self.config.speed_monitor.gpu_flops_available
        bf16 = self.config.precision == "amp_bf16"
        return peak_flops(self.world.device, bf16=bf16, given=given)

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
        self._tracker = tracker
        reader = self.loader.iterate(
            state.step,
            rank=self.world.rank,
            world_size=self.world.size,
            stop_step=self.last_step,
        )
        with (
            self.saver,
            contextlib.closing(reader),
            profiling(config, first=self.job is not None) as profiled,
            collecting(config.gen1_gc_interval) as collect,
        ):
            if self._saved_step is None and saves_first(config):
                self.save("sharded")
            for batch, waited in timed(reader):
                gradients.zero()
                self._forward_backward(batch, waited)
                gradients.reduce(self.world)
                labels = gradients.sums[SUMS.index("labels")]
                bound = self.schedule.max_grad_norm(config.max_grad_norm, self.moment(state.step))
                norm = gradients.normalise(labels.clamp(min=1.0), bound)
                rate = self.schedule.learning_rate(self.moment(state.step + 1))
                self.optimizer.learning_rate = rate
                self._update(labels, norm, rate)
                self._read()
                self._save_if_due()
                if self.cancel.over(state.step, self._asked[1]):
                    self._read(wait=True)
                    why = self.cancel.why(state.step)
                    raise Stopped(f"{why}; the checkpoint of step {self._saved_step} is whole")
                profiled()
                collect(state.step)
            if self._saved_step != state.step:
                self.save(last_kind(config))

    def _forward_backward(self, batch: Batch, waited: float) -> None:
        """This rank's share of a step: gradients and sums."""
        config, sums = self.config, self.gradients.sums
        with autocast(config.precision, self.world.device):
            forward_backward(
                self.model,
                batch,
                self.gradients,
                microbatch_size=config.device_train_microbatch_size,
                z_loss=config.z_loss,
                compiled=config.compile is not None,
            )
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
        self.readings.put(
            StepRecord(number=state.step, tokens=state.tokens, learning_rate=rate),
            torch.cat((sums, torch.stack((loss, norm, skipped)))),
        )

    def _read(self, *, wait: bool = False) -> None:
        """Take in the values of the steps that are due, or of all; refuses what is not finite."""
        state = self.state
        for step, values in self.readings.take(wait=wait):
            sums = dict(zip(_READ, values, strict=True))
            self._require_finite(sums["cross_entropy"] + sums["z_loss"], "loss", step)
            self._require_finite(sums["norm"], "gradient norm", step)
            if sums["save_failed"]:
                self.saver.finish()  # raises on all ranks: each learns of it, sooner or later
            spikes: dict[str, float] = {}
            if sums["labels"]:
                spike = state.history.record(sums["loss"], sums["norm"], keep=self._kept_values)
                spikes = spike_metrics(state.history, spike)
            state.joules += sums["joules"]
            self._asked = sums["stop"], sums["stop_at_once"]
            speed = self.speed.step_done(step.tokens, sums["waited_seconds"] / self.world.size)
            if self.job is not None:
                self._log_step(self.job, step, sums, speed | spikes)

    def _require_finite(self, value: float, what: str, step: StepRecord) -> None:
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
        raise Diverged(
            f"the {what} of step {step.number} is {value}; its update was not made. {back}"
        )

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

    def _log_step(
        self, job: Job, step: StepRecord, sums: dict[str, float], others: dict[str, float]
    ) -> None:
        config, number = self.config, step.number
        losses = loss_metrics(sums, z_loss=config.z_loss > 0)
        loss = losses.get("train/CrossEntropyLoss")
        shown = step_status(
            number,
            self.last_step,
            loss=loss,
            learning_rate=step.learning_rate,
            speed=others,
            world_size=self.world.size,
            url=self._tracker.url,
        )
        job.progress(number, self.last_step, unit="steps", **shown)
        if number % config.console_log_interval and number != self.last_step:
            return
        row = {
            **losses,
            **update_metrics(
                sums,
                learning_rate=step.learning_rate,
                groups=len(self.optimizer.groups),
                skips=config.core.skip_step is not None,
            ),
            **others,
            **device_metrics(self.world.device),
            **energy_metrics(self.energy.source, self.state.joules),
        }
        job.metric({"step": number, **row})
        self._tracker.log(row, number)
        said = "no labels" if loss is None else f"loss {loss:.4f}"
        log.info("step %d/%d %s rate %.3g", number, self.last_step, said, step.learning_rate)


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch, and the seconds that were waited for it."""
    start = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - start
        start = time.perf_counter()
