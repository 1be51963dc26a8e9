"""Which updates are left out, decided on the device: the host never waits to make a step."""

import torch
from torch import Tensor

from olmo_core.config.compute import SkipStepConfig
from olmo_core.train.spikes import History


class SkipStep:
    """Leave out an update whose loss or gradient norm is far above those before it.

    Source of the rule: OLMo-core's SkipStepOptimizer. A value is too high where it exceeds the
    mean of the last `window` values by more than `sigma` of their (unbiased) standard deviations;
    values of steps left out are among them. Nothing is left out before there are
    window / 2 values, the step's own included.

    Args:
        config: Window and bound.
        history: The values before the first step to come.
        device: Where the values are.
    """

    def __init__(self, config: SkipStepConfig, history: History, device: torch.device) -> None:
        self.window, self.sigma = config.window, config.sigma
        # A ring: the place of a value follows from its number alone, so that a resumed run adds
        # up in the same order, to the same bits.
        self._values = torch.zeros(2, self.window, device=device)
        self._numbers = torch.arange(self.window, device=device)
        self._count = torch.tensor(history.steps, device=device)
        pairs = list(zip(history.losses, history.norms, strict=True))[-self.window :]
        for number, pair in enumerate(pairs, start=history.steps - len(pairs)):
            self._values[:, number % self.window] = torch.tensor(pair, device=device)

    def judge(self, latest: Tensor, labels: Tensor) -> Tensor:
        """Return whether the update of a step is to be left out, a scalar of 0 or 1.

        Args:
            latest: Its loss and gradient norm, (2,).
            labels: Their number, a scalar; a step without any is neither judged nor remembered.
        """
        known = self._count.clamp(max=self.window)
        is_known = (self._numbers < known).float()
        mean = (self._values * is_known).sum(dim=1) / known
        squares = ((self._values - mean[:, None]) ** 2 * is_known).sum(dim=1)
        deviation = (squares / (known - 1)).sqrt()
        # one value alone has no deviation
        enough = (known >= 2) & (known + 1 >= self.window // 2) & (labels > 0)
        skip = ((latest - mean > self.sigma * deviation).any() & enough).float()
        place = (self._numbers == self._count % self.window) & (labels > 0)
        self._values = torch.where(place, latest[:, None], self._values)
        self._count += (labels > 0).long()
        return skip


class Guard:
    """Answers for each step whether its update is left out, without waiting for the device.

    After a loss or a gradient that is not finite no update is made any more: when the host reads
    the values, a step later perhaps, the weights are still those of before.
    """

    def __init__(self, skip_step: SkipStep | None, device: torch.device) -> None:
        self._skip_step = skip_step
        self._broken = torch.zeros((), device=device)

    def judge(
        self, loss: Tensor, norm: Tensor, z_loss: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge a step by its loss and gradient norm; its z-loss must only be finite. Scalars.

        A step without labels has neither, and is no spike.

        Returns:
            Whether its update must be left out, for any reason, and whether it is skipped as a
            spike: scalars of 0 or 1.
        """
        values = torch.stack((loss, norm, z_loss))
        self._broken = torch.maximum(self._broken, 1 - values.isfinite().all().float())
        if self._skip_step is None:
            return self._broken, torch.zeros_like(self._broken)
        skip = self._skip_step.judge(values[:2], labels)
        return torch.maximum(self._broken, skip), skip
