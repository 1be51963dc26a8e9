"""Find where a quote stands in token files, to the letter: by the index, or by reading them all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from olmo_core.errors import InputError
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES, WINDOW, winnow

_AT_ONCE = 1 << 20  # tokens read at once
_STRETCHES = 1024  # around places, decoded at once


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Where a quote stands: the tokens [start, stop) of `file` hold it, begin and end with it."""

    file: str
    start: int
    stop: int


class TooShort(InputError):
    """A quote is shorter than what is sure to be found."""


def require_length(quote: bytes) -> None:
    """Refuse a quote that is too short to be found.

    Raises:
        TooShort: says how long it must be.
    """
    if len(quote) < MATCH_BYTES:
        raise TooShort(
            f"a text of {MATCH_BYTES} bytes, about ten words of English, which a quote needs: "
            f"it has {len(quote)}"
        )


def find(index: QuotesIndex, text: TokenText, quote: bytes) -> Iterator[Place]:
    """Yield each place of a quote, by file and token; every one there is.

    Args:
        index: Of the tokens.
        text: Their text.
        quote: As tokens hold it (`TokenBytes.of_text`), `MATCH_BYTES` at least.

    Raises:
        TooShort: it is.
        InputError: index or token files are damaged.
    """
    require_length(quote)
    chosen = winnow(np.frombuffer(quote, dtype=np.uint8))
    found = index.places([*chosen.hashes])
    # Each hash stands wherever the quote does: the rarest has the fewest places to look at.
    rarest = min(
        range(len(chosen.hashes)), key=lambda n: sum(len(of_shard[n]) for of_shard in found)
    )
    # Of equal grams in a window the index may hold another one.
    before = int(chosen.places[rarest]) + WINDOW
    after = len(quote) - int(chosen.places[rarest]) + WINDOW
    last: Place | None = None
    for shard, of_shard in zip(index.shards, found, strict=True):
        file = shard.shard.file
        tokens = text.tokens(file)
        stretches = [*_joined(of_shard[rarest], before, after, tokens)]
        for at in range(0, len(stretches), _STRETCHES):
            for place in _search(text, file, stretches[at : at + _STRETCHES], quote):
                if place != last:  # two shards may know the places at their border
                    last = place
                    yield place


def scan(
    text: TokenText, files: dict[str, int], quote: bytes, progress: Callable[[int, int], None]
) -> Iterator[Place]:
    """Yield each place of a quote by reading all token files.

    Args:
        text: The tokens' text.
        files: The tokens in each file.
        quote: As tokens hold it, `MATCH_BYTES` at least.
        progress: Told the tokens that are read, and all.

    Raises:
        TooShort: it is.
        InputError: a token file is damaged.
    """
    require_length(quote)
    done, total = 0, sum(files.values())
    progress(done, total)
    for file, tokens in files.items():
        last: Place | None = None
        for start in range(0, tokens, _AT_ONCE):
            stop = min(tokens, start + _AT_ONCE)
            # A token has a byte at least.
            for place in _search(text, file, [(start, min(tokens, stop + len(quote)))], quote):
                if last is None or place > last:
                    last = place
                    yield place
            progress(done + stop, total)
        done += tokens


def _joined(places: np.ndarray, before: int, after: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of tokens around these places in which a quote may stand."""
    starts = np.maximum(places - before, 0)
    stops = np.minimum(places + after, tokens)
    if not len(places):
        return
    apart = np.flatnonzero(starts[1:] > stops[:-1]) + 1
    for part in np.split(np.arange(len(places)), apart):
        yield int(starts[part[0]]), int(stops[part[-1]])


def _search(
    text: TokenText, file: str, stretches: Sequence[tuple[int, int]], quote: bytes
) -> Iterator[Place]:
    """Yield the places of a quote in stretches of tokens of a file."""
    content, edges = text.read_each(file, stretches)
    # Of each stretch its first token, and first byte, in what is joined here.
    tokens = np.cumsum([0, *(stop - start for start, stop in stretches)])
    ends = edges[tokens].tolist()
    joined, at, number, last = content.tobytes(), -1, 0, None
    while (at := joined.find(quote, at + 1)) >= 0:
        while ends[number + 1] <= at:
            number += 1
        if at + len(quote) > ends[number + 1]:
            continue  # the next stretch lies elsewhere
        shift = stretches[number][0] - int(tokens[number])
        first = int(np.searchsorted(edges, at, "right")) - 1
        after = int(np.searchsorted(edges, at + len(quote), "left"))
        place = Place(file=file, start=shift + first, stop=shift + after)
        if place != last:  # twice from the same token on
            last = place
            yield place
