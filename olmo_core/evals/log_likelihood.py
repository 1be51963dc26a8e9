"""Log-likelihoods that say of how many tokens they are, which lm-eval's do not."""

from collections.abc import Sequence
from typing import Any


class LogLikelihood(float):
    """Nats of a continuation after its context, and the number of the continuation's tokens."""

    tokens: int

    @classmethod
    def of(cls, nats: float, tokens: int) -> "LogLikelihood":
        """Return `nats` with its number of tokens."""
        value = cls(nats)
        value.tokens = tokens
        return value


def with_tokens(
    scored: Sequence[tuple[float, bool]], requests: Sequence[tuple[Any, list[int], list[int]]]
) -> list[tuple[float, bool]]:
    """Return what lm-eval scored, each log-likelihood with the tokens of its continuation.

    Args:
        scored: Nats, and whether the continuation is the likeliest text.
        requests: The texts, the ids of the context and those of the continuation, in this order.
    """
    return [
        (LogLikelihood.of(nats, len(continuation)), greedy)
        for (nats, greedy), (_, _, continuation) in zip(scored, requests, strict=True)
    ]
