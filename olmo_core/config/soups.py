"""Sections `soup` and `interpolation` of a recipe: which models are averaged, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.release import SoupConfig


@dataclass(frozen=True, kw_only=True)
class SoupMethodConfig(Bounded):
    """How ingredients become one model: the section `soup`.

    Raises:
        ValueError: weights that do not sum to 1, or beside a method that finds its own.
    """

    # mean: of all, plain or weighted; token_weighted: by the tokens that each was trained on;
    # greedy: of those that do not raise the held-out loss
    method: Literal["mean", "token_weighted", "greedy"] = "mean"
    # of `mean`: one per ingredient, in the order of their numbers; they sum to 1
    weights: tuple[float, ...] | None = None
    # of each run, whose mean is the ingredient; 1: the run's last weights
    last_checkpoints: int = at_least(1, default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        SoupConfig(weights=self.weights)
        if self.weights is not None and self.method != "mean":
            raise ValueError(f"weights: method {self.method} finds its own; expected method: mean")

    @property
    def plain(self) -> SoupConfig | None:
        """The configuration of `olmo_core.checkpoint.soup`, if that job is all that is asked."""
        if self.method == "mean" and self.last_checkpoints == 1:
            return SoupConfig(weights=self.weights)
        return None


@dataclass(frozen=True, kw_only=True)
class SoupJobConfig(SoupMethodConfig):
    """The section `soup`, and what its method needs to know of other sections."""

    perplexity: PerplexityConfig | None = None  # of `greedy`: how the held-out loss is measured
    # of each run: the steps between two checkpoints, where several of them are averaged
    save_intervals: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, kw_only=True)
class InterpolationConfig(Bounded):
    """The line between two models' weights, along which the loss is measured.

    Raises:
        ValueError: the two are one.
    """

    between: tuple[str, str] = ("stage2_ingredient1", "stage2_ingredient2")
    points: int = at_least(3, default=11)  # on the line, its ends among them

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.between[0] == self.between[1]:
            raise ValueError(f"between: {self.between[0]} twice; expected two models")


@dataclass(frozen=True, kw_only=True)
class InterpolationJobConfig(InterpolationConfig):
    """The section `interpolation`, and how the held-out loss is measured."""

    perplexity: PerplexityConfig
