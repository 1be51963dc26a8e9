"""lm-eval's language model of a Hugging Face folder, which cuts no prompt without a word.

lm-eval cuts what is longer than the model's context from the left, and ends with a bare assertion
where a choice alone is longer. Here the cut documents are counted and the choice is named.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from olmo_core.errors import InputError
from olmo_core.evals.log_likelihood import with_tokens

Encoded = tuple[tuple[str, str], list[int], list[int]]  # texts, ids of the prompt, of the choice
Base: Any = HFLM  # its decorator hides its type
MOST_SHOWN = 60  # characters of a choice, in an error


class LanguageModel(Base):
    """An HFLM that says which documents of the last task it could not read whole."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.cut: set[int] = set()  # documents of the task, as lm-eval numbers those that it asks
        self._numbers: Sequence[int] | None = None
        self._asked: Sequence[Any] = ()

    def begin(self, numbers: Sequence[int] | None) -> None:
        """Begin a task; `numbers` are those of its documents in their split, None: from 0 on."""
        self.cut.clear()
        self._numbers = numbers

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each choice, and whether it is the likeliest text.

        Raises:
            InputError: a choice is empty, or longer than the model's context; names the document.
        """
        self._asked = requests
        try:
            # Its bars would fill the log: the job reports progress itself.
            return super().loglikelihood(requests, disable_tqdm=True)
        finally:
            self._asked = ()

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the continuation of each prompt.

        Raises:
            InputError: what is to be generated leaves no room for a prompt; names the document.
        """
        for request in requests:
            prompt, settings = request.args
            generation: Any = normalize_gen_kwargs(settings, self.max_gen_toks)
            new: int = generation["max_gen_toks"]
            room = self.max_length - new
            if room <= 0:
                raise InputError(
                    f"{self._named(request)}: {new:,} tokens are to be generated; expected fewer "
                    f"than {self.max_length:,}, the model's context"
                )
            if len(self.tok_encode(prompt)) > room:
                self.cut.add(request.doc_id)
        return super().generate_until(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Encoded], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if self._asked:  # else windows of whole texts, of which nothing is cut
            for asked, (_, prompt, choice) in zip(self._asked, requests, strict=True):
                if not prompt:
                    raise InputError(f"{self._named(asked)}: its prompt has no token")
                if not 0 < len(choice) <= self.max_length:
                    text = str(asked.args[1])
                    shown = text[:MOST_SHOWN] + "…" * (len(text) > MOST_SHOWN)
                    raise InputError(
                        f"{self._named(asked)}: its choice {shown!r} has {len(choice):,} tokens; "
                        f"expected 1 to {self.max_length:,}, the model's context"
                    )
                # The last token is predicted, never read.
                if len(prompt) + len(choice) > self.max_length + 1:
                    self.cut.add(asked.doc_id)
        scored = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        return with_tokens(scored, requests)

    def _named(self, request: Any) -> str:
        numbers = self._numbers
        number = request.doc_id if numbers is None else numbers[request.doc_id]
        return f"{request.task_name}: document {number}"
