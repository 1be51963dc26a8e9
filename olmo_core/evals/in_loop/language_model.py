"""lm-eval's language model over the model that is being trained."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from olmo_core.evals.in_loop.ranks import RankedModel
from olmo_core.evals.language_model import Encoded, LanguageModel
from olmo_core.evals.perplexity.windows import Window

Base: Any = HFLM


class _Scorer(Base):
    """An HFLM whose log-likelihoods are made by all ranks of a run."""

    _ranked: RankedModel
    _batch_tokens: int

    def _loglikelihood_tokens(
        self, requests: list[Encoded], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        # Whether a text is the likeliest of all is not asked by any label, and so not found out.
        windows = [window_of(prompt, choice, self.max_length) for _, prompt, choice in requests]
        return [(nats, False) for nats in self._ranked.score(windows, self._batch_tokens)]


class TrainedLanguageModel(LanguageModel, _Scorer):
    """A `LanguageModel`, with its checks, that computes as `RankedModel` does.

    Args:
        ranked: The model, on all its ranks.
        tokenizer: What made its tokens.
        batch_tokens: Tokens of a batch on a rank, padding included.
    """

    def __init__(self, ranked: RankedModel, tokenizer: Tokenizer, batch_tokens: int) -> None:
        config = ranked.model.config
        reader = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token=tokenizer.id_to_token(config.eos_token_id)
        )
        # In place of transformers' model, of which only these are asked.
        stands_in = SimpleNamespace(
            device=ranked.world.device, config=SimpleNamespace(model_type="olmo2")
        )
        super().__init__(
            pretrained=stands_in,
            tokenizer=reader,
            max_length=config.max_sequence_length,
            backend="causal",
            batch_size=1,
        )
        self._ranked, self._batch_tokens = ranked, batch_tokens


def window_of(prompt: Sequence[int], choice: Sequence[int], most: int) -> Window:
    """Return the window in which a choice is scored after its prompt, cut from the left."""
    ids = np.array([*prompt, *choice], np.int64)
    return Window(document=0, inputs=ids[:-1][-most:], targets=ids[len(prompt) :])
