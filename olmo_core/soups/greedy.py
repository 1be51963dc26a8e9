"""The greedy soup: ingredients are kept one after the other as long as the loss does not rise.

Recipe 1 of Wortsman et al., "Model soups" (https://arxiv.org/abs/2203.05482), with a loss in place
of the accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One ingredient, tried in the soup as it stood."""

    ingredient: str
    loss: float  # of the mean of the soup and this ingredient
    kept: bool


def choose(losses: Mapping[str, float], loss_of: Callable[[Sequence[str]], float]) -> list[Trial]:
    """Return the trials in their order: the best ingredient first, which is kept.

    Args:
        losses: Of each ingredient alone; of equal ones the first is tried first.
        loss_of: Returns the loss of the mean of ingredients, two or more.
    """
    first, *others = sorted(losses, key=lambda name: losses[name])
    trials = [Trial(ingredient=first, loss=losses[first], kept=True)]
    kept, lowest = [first], losses[first]
    for name in others:
        loss = loss_of([*kept, name])
        trials.append(Trial(ingredient=name, loss=loss, kept=loss <= lowest))
        if loss <= lowest:
            kept.append(name)
            lowest = loss
    return trials
