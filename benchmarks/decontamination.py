"""How surely planted evaluation texts are found, and how fast a corpus is searched.

200 texts stand in pages, spoilt in five ways: as they are, rewrapped, in other case, as bullets,
with a fifth cut out. The other pages are clean. Prints recall and precision by way, and the
search's rate.

    python benchmarks/decontamination.py --pages=20000
"""

import argparse
import random
import time
from collections import Counter

from olmo_core.corpus.duplicates.contamination import EvaluationTexts

WAYS = ("as it is", "rewrapped", "other case", "bullets", "a fifth cut out")
TEXTS = 200
FOUND = 0.5  # of a text's words: what the demo's rule drops


def main() -> None:
    """Plant, search, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=20_000, help="of 400 words (20000)")
    pages = parser.parse_args().pages
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyzäß"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]
    common = [1 / rank for rank in range(1, len(words) + 1)]  # as in a language (Zipf)
    texts = [rng.choices(words, common, k=rng.randint(40, 300)) for _ in range(TEXTS)]
    index = EvaluationTexts.of(map(" ".join, texts), run_words=13, min_words=8)
    places = rng.sample(range(pages), k=TEXTS)
    planted = {place: number for number, place in enumerate(places)}
    found: Counter[str] = Counter()
    wrong = size = 0
    seconds = 0.0
    for page in range(pages):
        parts = [" ".join(rng.choices(words, common, k=200)) for _ in range(2)]
        if page in planted:
            parts.insert(1, spoilt(texts[planted[page]], planted[page] % len(WAYS), rng))
        text = " ".join(parts)
        size += len(text.encode())
        began = time.process_time()
        hits = {number for number, share in index.covered(text) if share > FOUND}
        seconds += time.process_time() - began
        right = {planted[page]} & hits if page in planted else set[int]()
        found.update(WAYS[number % len(WAYS)] for number in right)
        wrong += len(hits - right)
    print(f"{'spoilt':16}  planted  found")
    for way in WAYS:
        print(f"{way:16}  {TEXTS // len(WAYS):7}  {found[way]:5}")
    right = found.total()
    print(f"recall {right / TEXTS:.3f}, precision {right / max(1, right + wrong):.3f}")
    print(f"{size / 1e6 / seconds:.1f} MB of text per CPU-second, {size / 1e6:.0f} MB in all")


def spoilt(words: list[str], way: int, rng: random.Random) -> str:
    """Return one of the WAYS in which a copy differs."""
    if way == 1:
        return "\n".join(" ".join(words[i : i + 7]) for i in range(0, len(words), 7))
    if way == 2:
        return " ".join(rng.choice((word.upper(), word.title())) for word in words)
    if way == 3:
        return "".join(f"\n* {word}," for word in words)
    if way == 4:
        cut = len(words) // 5
        begin = rng.randrange(len(words) - cut)
        return " ".join([*words[:begin], *words[begin + cut :]])
    return " ".join(words)


if __name__ == "__main__":
    main()
