"""Windows against lm-eval's, and batches."""

import numpy as np
import pytest
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from olmo_core.evals.perplexity.windows import batches, windows


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 16, 17, 23])
def test_windows_are_those_of_lm_eval(length: int) -> None:
    tokens = list(range(100, 100 + length))
    ours = list(windows(tokens, prefix=0, max_window=8))
    theirs = map(
        make_disjoint_window,
        get_rolling_token_windows(tokens, prefix_token=0, max_seq_len=8, context_len=1),
    )
    for window, (context, continuation) in zip(ours, theirs, strict=True):
        # lm-eval reads context and continuation but for the last token.
        assert window.inputs.tolist() == [*context, *continuation][:-1]
        assert window.targets.tolist() == list(continuation)
    assert np.concatenate([window.targets for window in ours]).tolist() == tokens


def test_no_window_is_longer_and_the_last_has_full_context() -> None:
    cut = list(windows(range(20), prefix=99, max_window=8))
    assert [len(window.inputs) for window in cut] == [8, 8, 8]
    assert [window.scored for window in cut] == [8, 8, 4]
    assert list(windows([], prefix=99, max_window=8)) == []


def test_batches_are_full_and_sorted() -> None:
    cut = [next(iter(windows(range(n), prefix=0, max_window=99))) for n in (3, 50, 20, 7, 49)]
    grouped = [[len(window.inputs) for window in batch] for batch in batches(cut, 100)]
    assert grouped == [[50, 49], [20, 7, 3]]
    assert [len(batch) for batch in batches(cut, 1)] == [1] * 5
