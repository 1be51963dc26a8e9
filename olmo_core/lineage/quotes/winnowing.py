"""Winnowed fingerprints: few places of a text by which every match of some length is found.

Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting" (2003): of
every `WINDOW` grams that follow each other the one of the smallest hash is chosen. Two texts that
share `MATCH_BYTES` bytes share all grams of a window, hence a chosen one. About 2 / (WINDOW + 1) of
all grams are chosen.
"""

from dataclasses import dataclass

import numpy as np

GRAM_BYTES = 24
WINDOW = 41  # grams
MATCH_BYTES = GRAM_BYTES + WINDOW - 1  # every match of so many bytes is found: 64
_PLACE_BITS = 16  # of a gram in a block
_BLOCK = (1 << _PLACE_BITS) - WINDOW + 1  # windows at once: their arrays fit into a core's cache
_PLACES = np.uint64((1 << _PLACE_BITS) - 1)
# Odd numbers that split hashes well (Steele and Vigna 2021, spectrally good multipliers).
_FIRST, _SECOND, _THIRD, _MIX, _STORED = (
    np.uint64(number)
    for number in (
        0xD1342543DE82EF95,
        0xAF251AF3B0F025B5,
        0xB564EF22EC7AECE5,
        0xF1357AEA2E62A9C5,
        0x9E3779B97F4A7C15,
    )
)


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Chosen grams of some bytes."""

    places: np.ndarray  # (n,), int64, ascending: the first byte of each
    hashes: np.ndarray  # (n,), uint64: evenly spread


def winnow(content: np.ndarray) -> Fingerprints:
    """Choose grams of some bytes, uint8 (n,), so that each window has one of its smallest hash.

    Which of equal grams of a window is chosen may depend on what surrounds it; that one is chosen
    does not. So in text that repeats itself, blanks say, no more grams are chosen than elsewhere.
    """
    windows = len(content) - MATCH_BYTES + 1
    places: list[np.ndarray] = [np.empty(0, np.int64)]
    hashes: list[np.ndarray] = [np.empty(0, np.uint64)]
    for start in range(0, windows, _BLOCK):
        stop = min(windows, start + _BLOCK) + MATCH_BYTES - 1
        chosen = _chosen(_gram_hashes(content[start:stop]))
        places.append((_PLACES - (chosen & _PLACES)).astype(np.int64) + start)
        hashes.append((chosen >> np.uint64(_PLACE_BITS)) * _STORED)
    found = np.concatenate(places)
    # The last of a block may be the first of the next.
    once = np.append(found[1:] != found[:-1], True)[: len(found)]
    return Fingerprints(places=found[once], hashes=np.concatenate(hashes)[once])


def gram_places(content: np.ndarray) -> dict[int, list[int]]:
    """Return where each gram stands by whose hash a match of some bytes may be found.

    All places of it, by its hash: which of those that repeat themselves a text is found by may
    depend on what surrounds it there.
    """
    if len(content) < MATCH_BYTES:
        return {}
    hashes = (_gram_hashes(content) >> np.uint64(_PLACE_BITS)) * _STORED
    wanted = np.unique(winnow(content).hashes)
    places: dict[int, list[int]] = {int(each): [] for each in wanted}
    for place in np.flatnonzero(np.isin(hashes, wanted)).tolist():
        places[int(hashes[place])].append(place)
    return places


def _gram_hashes(content: np.ndarray) -> np.ndarray:
    """Return a hash of each gram of some bytes, uint64 (n - GRAM_BYTES + 1,)."""
    content = np.ascontiguousarray(content)
    # The eight bytes from each byte on, as a number.
    words = np.ndarray((len(content) - 7,), dtype="<u8", buffer=content, strides=(1,)).copy()
    grams = len(content) - GRAM_BYTES + 1
    hashes = words[:grams] * _FIRST
    part = words[8 : 8 + grams] * _SECOND
    hashes ^= part >> np.uint64(31)
    hashes += part
    np.multiply(words[16 : 16 + grams], _THIRD, out=part)
    hashes ^= part >> np.uint64(30)
    hashes += part
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIX
    return hashes


def _chosen(hashes: np.ndarray) -> np.ndarray:
    """Return the leading bits of the hash of each chosen gram, and below them its place.

    The place is counted down from the last, so that of equal hashes the last is smallest.
    """
    hashes &= ~_PLACES
    hashes |= _PLACES - np.arange(len(hashes), dtype=np.uint64)
    smallest, width = hashes, 1
    while width < WINDOW:
        step = min(width, WINDOW - width)
        smallest = np.minimum(smallest[:-step], smallest[step:])
        width += step
    chosen = smallest[np.concatenate([[True], smallest[1:] != smallest[:-1]])]
    return chosen[_needed(chosen)]


def _needed(chosen: np.ndarray) -> np.ndarray:
    """Return which are needed: of equal ones in a stretch as long as a window the two outermost.

    Whatever window holds one between these holds one of these too.
    """
    values = chosen >> np.uint64(_PLACE_BITS)
    stretch = (_PLACES - (chosen & _PLACES)) // np.uint64(WINDOW)
    same = (values[1:] == values[:-1]) & (stretch[1:] == stretch[:-1])
    return ~(np.concatenate([[False], same]) & np.concatenate([same, [False]]))
