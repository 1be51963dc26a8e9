"""Which updates are left out, decided on the device: the host never waits to make a step."""

import torch
from torch import Tensor

from olmo_core.config.compute import SkipStepConfig
from olmo_core.train.state import History


class Guard:
    """Decide for each step whether its update is left out, without waiting for the device.

    After a loss or a gradient that is not finite no update is made any more: when the host reads
    the values, a step later perhaps, the weights are still those of before.

    With `core.skip_step` an update is also left out where loss or gradient norm is far above those
    before it. Source of the rule: OLMo-core's SkipStepOptimizer. A value is too high where it
    exceeds the mean of the last `window` values by more than `sigma` of their (unbiased) standard
    deviations; values of steps left out are among them. Nothing is left out before there are
    window / 2 values, the step's own included.

    Args:
        config: Window and bound; None: no spike is left out.
        history: The values before the first step to come.
        device: Where the values are.
    """

    def __init__(
        self, config: SkipStepConfig | None, history: History, device: torch.device
    ) -> None:
        self._broken = torch.zeros((), device=device)
        self._config = config
        if config is None:
            return
        # A ring: the place of a value follows from its number alone, so that a resumed run adds
        # up in the same order, to the same bits.
        self._values = torch.zeros(2, config.window, device=device)
        self._numbers = torch.arange(config.window, device=device)
        self._count = torch.tensor(history.steps, device=device)
        pairs = list(zip(history.losses, history.norms, strict=True))[-config.window :]
        for number, pair in enumerate(pairs, start=history.steps - len(pairs)):
            self._values[:, number % config.window] = torch.tensor(pair, device=device)

    def judge(
        self, loss: Tensor, norm: Tensor, z_loss: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge a step by its loss and gradient norm; its z-loss must only be finite. Scalars.

        A step without labels has neither, and is neither a spike nor remembered.

        Returns:
            Whether its update must be left out, for any reason, and whether it is skipped as a
            spike: scalars of 0 or 1.
        """
        values = torch.stack((loss, norm, z_loss))
        self._broken = torch.maximum(self._broken, 1 - values.isfinite().all().float())
        if self._config is None:
            return self._broken, torch.zeros_like(self._broken)
        skip = self._is_spike(self._config, values[:2], labels)
        return torch.maximum(self._broken, skip), skip

    def _is_spike(self, config: SkipStepConfig, latest: Tensor, labels: Tensor) -> Tensor:
        known = self._count.clamp(max=config.window)
        is_known = (self._numbers < known).float()
        mean = (self._values * is_known).sum(dim=1) / known
        squares = ((self._values - mean[:, None]) ** 2 * is_known).sum(dim=1)
        deviation = (squares / (known - 1)).sqrt()
        # one value alone has no deviation
        enough = (known >= 2) & (known + 1 >= config.window // 2) & (labels > 0)
        skip = ((latest - mean > config.sigma * deviation).any() & enough).float()
        place = (self._numbers == self._count % config.window) & (labels > 0)
        self._values = torch.where(place, latest[:, None], self._values)
        self._count += (labels > 0).long()
        return skip
