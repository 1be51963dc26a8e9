"""The model that is being trained, as something that scores windows: its ranks share the work."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from olmo_core.evals.perplexity.scoring import score_batch
from olmo_core.evals.perplexity.windows import Window, batches
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.world import World


class Abandoned(Exception):
    """The run is asked to stop; all ranks leave the evaluation at the same batch."""


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """Score windows on all ranks of a run, each its share of them.

    Where the weights are shards, every rank must compute as often as every other. Before each batch
    the ranks say whether they have one; who has none left computes along on a window of one token
    until nobody has. A rank that fails between its batches does so, too, and tells the others at
    the end. Where weights are shards, one that fails within a batch ends the run, as it would in a
    step: the others wait for its shards.
    """

    model: Transformer
    world: World
    narrow: bool  # shards are gathered in bfloat16: what is between them is computed in it, too
    stop_requests: Callable[[], int]  # how often this rank was asked to stop

    def score(self, windows: Sequence[Window], batch_tokens: int) -> list[float]:
        """Return the log-likelihood (nats) of each window, on every rank.

        Args:
            windows: The same on all ranks.
            batch_tokens: Tokens of a batch, padding included.

        Raises:
            Abandoned: a rank is asked to stop.
            RuntimeError: a rank could not compute; says which, and why. On all ranks.
        """
        numbered = [replace(window, document=number) for number, window in enumerate(windows)]
        # Every rank has windows of like lengths, so that its batches take as long as the others'.
        numbered.sort(key=lambda window: -len(window.inputs))
        values: dict[int, float] = {}
        problem: str | None = None
        try:
            for batch in batches(numbered[self.world.rank :: self.world.size], batch_tokens):
                self._agree(computing=True)
                numbers = [window.document for window in batch]
                values |= zip(numbers, self._compute(batch), strict=True)
        except Abandoned:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        while self._agree(computing=False):
            self._compute([ONE_TOKEN])
        return _joined(self.world.gather((problem, values)), len(windows))

    def _compute(self, batch: Sequence[Window]) -> list[float]:
        kind = self.world.device.type
        # no cache, as in training: with sharded weights it gave wrong gradients
        with torch.autocast(kind, torch.bfloat16, enabled=self.narrow, cache_enabled=False):
            return score_batch(self.model, batch, pad=0)

    def _agree(self, *, computing: bool) -> bool:
        """Return whether any rank computes a batch now; heed a stop, on all ranks at once."""
        told = torch.tensor([computing, self.stop_requests() > 0], dtype=torch.int32)
        self.world.sum_(told)
        anybody, asked = told.tolist()
        if asked:
            raise Abandoned
        return bool(anybody)


ONE_TOKEN = Window(document=0, inputs=np.zeros(1, np.int64), targets=np.zeros(1, np.int64))


def _joined(told: Sequence[object], count: int) -> list[float]:
    values: dict[int, float] = {}
    problems: list[str] = []
    for rank, (problem, found) in enumerate(told):  # pyright: ignore[reportGeneralTypeIssues]
        values |= found
        problems += [f"rank {rank}: {problem}"] if problem else []
    if problems:
        raise RuntimeError("; ".join(problems))
    return [values[number] for number in range(count)]


@contextlib.contextmanager
def undisturbed(model: Transformer, device: torch.device) -> Iterator[None]:
    """Evaluate within this block; after it training goes on as if nothing had been.

    The model is in evaluation mode, compiled blocks run as they are written (other shapes would
    compile anew), random numbers are as before, and shards that were gathered are let go.
    """
    training = model.training
    compiled = any(block._compiled_call_impl is not None for block in model.blocks)
    generators = random.getstate(), np.random.get_state()
    model.eval()
    try:
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext(),
        ):
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        model.train(training)
        for module in model.modules():
            if hasattr(module, "reshard"):  # FSDP2's; it takes 1.5 s to import
                module.reshard()  # pyright: ignore[reportCallIssue]
