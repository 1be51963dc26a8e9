"""Log-probabilities against float64, whatever the size of the logits."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from olmo_core.evals.perplexity.scoring import score_batch
from olmo_core.evals.perplexity.windows import Window

ROWS, SIZE, TOKENS = 9000, 16, 40  # more rows than a tile has


@dataclasses.dataclass
class Stand:
    """A model whose states are given."""

    states: torch.Tensor
    embeddings: nn.Embedding

    def loss(self, criterion: Any, inputs: torch.Tensor, labels: torch.Tensor) -> Any:
        return criterion(self.states, self.embeddings.weight, labels.flatten())


@pytest.mark.parametrize("size", [1.0, 60.0, 100.0, 500.0])
@pytest.mark.parametrize("shift", [0.0, 300.0, -300.0])
def test_the_size_of_logits_does_not_matter(size: float, shift: float) -> None:
    """`shift` is added to all logits, of which the largest are about as large as `size`."""
    torch.manual_seed(0)
    states, weight = torch.randn(TOKENS, SIZE), torch.randn(ROWS, SIZE)
    states *= size / (states @ weight.T).amax()
    states[::2] *= 1e-3  # rows of both kinds in one batch
    states[:, 0], weight[:, 0] = shift, 1.0
    ids = torch.randint(ROWS, (TOKENS,))
    model: Any = Stand(states, nn.Embedding(ROWS, SIZE, _weight=weight))
    window = Window(document=0, inputs=np.zeros(TOKENS, np.int64), targets=ids.numpy())
    with torch.no_grad():
        logits = states.double() @ weight.double().T
        expected = logits.log_softmax(-1).gather(1, ids[:, None]).sum()
        [found] = score_batch(model, [window], 0)
    assert found == pytest.approx(float(expected), rel=2e-5 if shift else 1e-6)
