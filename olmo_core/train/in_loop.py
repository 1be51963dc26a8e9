"""Evaluation within the training loop, on its ranks; it changes nothing that is learned."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from olmo_core.config.train import TrainConfig
from olmo_core.model.transformer import Transformer
from olmo_core.monitor.tracking import Tracker
from olmo_core.parallel.world import World
from olmo_core.run.folder import EVALUATION, RunFolder, read_metrics
from olmo_core.run.job import Job

if TYPE_CHECKING:
    from olmo_core.evals.in_loop.evaluators import Evaluators

log = logging.getLogger("olmo")

Figures = Mapping[str, float]


class InLoopEvaluation:
    """The evaluators of a run: after which steps they are asked, and where figures are written.

    As in OLMo that is after each `eval_interval` steps and after the last; before the first step
    with `eval_on_load` where a checkpoint was loaded. What a stop has cut off is made up for where
    the run goes on.

    Args:
        config: The run.
        world: Its ranks.
        job: Of the first rank.
        step: Where this attempt begins.
        resumed: It goes on with what its own folder holds.

    Raises:
        ConfigError: an evaluator cannot be had (see `Evaluators`).
    """

    def __init__(
        self, config: TrainConfig, world: World, job: Job | None, *, step: int, resumed: bool
    ) -> None:
        self._interval, self._job = config.eval_interval or 0, job
        self._evaluators = None
        if not config.evaluators or self._interval < 1:
            return
        from olmo_core.evals.in_loop.evaluators import Evaluators  # lm-eval's reader of tasks

        self._evaluators = Evaluators(config, world)
        if job is not None:
            for label, why in self._evaluators.missing.items():
                log.warning("evaluators: training goes on without %s: %s", label, why)
        if not self._evaluators.labels:
            self._evaluators = None
        rows = read_metrics(RunFolder(config.save_folder).metrics) if world.first else []
        recorded = any(EVALUATION in row and row["step"] == step for row in rows)
        [recorded, *_] = world.gather(recorded)
        loads = config.load_path is not None or resumed
        self._now = config.eval_on_load and loads and step > 0 and not recorded
        self._done = step if recorded or not resumed else 0  # the last step that was evaluated

    def due(self, step: int, *, last: bool) -> bool:
        """Return whether the weights after `step` are to be evaluated, and have not been."""
        if self._evaluators is None:
            return False
        return self._now or (step != self._done and (last or step % self._interval == 0))

    def evaluate(
        self,
        model: Transformer,
        step: int,
        *,
        stop_requests: Callable[[], int],
        tracker: Tracker,
    ) -> bool:
        """Ask all evaluators about the weights after `step`; every rank calls this.

        One that fails is logged and recorded with its reason, and no more.

        Returns:
            Whether all were asked. Of an evaluation that a stop has cut off nothing is kept.
        """
        if self._evaluators is None:
            return True
        from olmo_core.evals.in_loop.ranks import Abandoned

        start = time.perf_counter()
        self._now, self._done = False, step
        asked = self._evaluators.evaluate(model, stop_requests=stop_requests, begins=self._says)
        try:
            found = dict(asked)
        except Abandoned:
            log.info("step %d: asked to stop while evaluating; nothing of it is kept", step)
            return False
        if self._job is not None:
            seconds = time.perf_counter() - start
            self._record(self._job, step, found, self._evaluators, seconds, tracker)
        return True

    def _record(
        self,
        job: Job,
        step: int,
        found: Mapping[str, Figures | str],
        evaluators: "Evaluators",
        seconds: float,
        tracker: Tracker,
    ) -> None:
        figures: dict[str, float] = {}
        asked: dict[str, str] = {}
        evaluated: list[str] = []
        failed: dict[str, str] = {}
        for label, value in found.items():
            if isinstance(value, str):
                failed[label] = value
                log.error("step %d: %s could not be evaluated: %s", step, label, value)
            else:
                figures |= value
                asked |= dict.fromkeys(value, evaluators.asked[label])
                evaluated.append(label)
        record = {
            **{"evaluated": evaluated, "failed": failed, "seconds": round(seconds, 3)},
            # of each figure: what was asked, and of how many documents; where these are equal, it
            # compares
            **{"asked": asked, "documents": {name: evaluators.documents[name] for name in figures}},
        }
        job.metric({"step": step, **figures, EVALUATION: record})
        tracker.log(figures, step, always=True)
        said = ", ".join(f"{name.removeprefix('eval/')} {v:.4f}" for name, v in figures.items())
        log.info("step %d evaluated in %.1f s: %s", step, seconds, said)

    def _says(self, label: str) -> None:
        if self._job is not None:
            self._job.computes()  # while it evaluates it makes no step, and does not hang
            log.debug("evaluating %s", label)
