"""Figures against the definition written out by hand."""

import math
from typing import Any

import pytest

from olmo_core.evals.perplexity.paloma import LeftOut, SetFigures, text_units


def figures(
    name: str, *documents: tuple[str, str, str, int, float]
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Rows and what is left out, of documents: source, domain, text, tokens, nats."""
    made = SetFigures(name=name)
    for source, domain, text, tokens, nats in documents:
        made.add(source, domain, {"token": tokens, **text_units(text)}, nats)
    return made.rows(), made.left_out()


def test_figures_by_hand() -> None:
    rows, left_out = figures(
        "held_out",
        ("web", "web", "two words", 4, -8.0),  # 9 bytes
        ("code", "python", "naïve", 3, -9.0),  # 5 chars, 6 bytes
        ("code", "c", "int x;", 2, -2.0),
    )
    assert left_out == []
    found = {(row["task"], row["metric"]): row["value"] for row in rows}
    assert found["held_out", "loss"] == pytest.approx(19 / 9)
    assert found["held_out", "bits_per_byte"] == pytest.approx(19 / (9 + 6 + 6) / math.log(2))
    assert found["held_out/code/python", "perplexity_token"] == pytest.approx(math.exp(3))
    assert found["held_out/code/python", "perplexity_char"] == pytest.approx(math.exp(9 / 5))
    assert found["held_out/code/python", "perplexity_byte"] == pytest.approx(math.exp(9 / 6))
    assert found["held_out/web", "perplexity_word"] == pytest.approx(math.exp(8 / 2))
    # A source is the mean over its domains, whatever their sizes.
    assert found["held_out/code", "perplexity_token"] == pytest.approx((math.exp(3) + math.e) / 2)
    macro = (found["held_out/web", "bits_per_byte"] + found["held_out/code", "bits_per_byte"]) / 2
    assert found["held_out", "macro_bits_per_byte"] == pytest.approx(macro)
    assert ("held_out/web/web", "loss") not in found
    assert {row["n"] for row in rows if row["task"] == "held_out/code"} == {2}


def test_what_has_no_value_is_left_out_and_said() -> None:
    rows, left_out = figures(
        "set",
        ("web", "empty", "", 0, 0.0),
        ("web", "blank", "   ", 1, -1.0),
        ("web", "full", "two words", 4, -8.0),
        ("code", "code", "x" * 5000, 2000, -8000.0),  # one word
        ("prose", "prose", "one", 1, -2.0),
    )
    found = {(row["task"], row["metric"]): (row["value"], row["n"]) for row in rows}
    assert all(math.isfinite(value) for value, _ in found.values())
    # Of the source, what remains; with the number of documents that it is of.
    assert found["set/web", "loss"] == ((1.0 + 2.0) / 2, 2)
    assert found["set/web", "perplexity_word"] == (math.exp(4.0), 1)
    assert found["set/web", "perplexity_char"] == pytest.approx(
        ((math.exp(1 / 3) + math.exp(8 / 9)) / 2, 2)
    )
    assert ("set/web/empty", "loss") not in found
    assert ("set/code", "perplexity_word") not in found
    assert found["set/code", "perplexity_token"][1] == 1
    assert found["set", "macro_perplexity_word"] == pytest.approx(
        ((math.exp(4.0) + math.exp(2.0)) / 2, 2)
    )
    assert found["set", "macro_loss"] == pytest.approx(((1.5 + 4.0 + 2.0) / 3, 4))
    said = {each.domain: {} for each in left_out}
    for each in left_out:
        said[each.domain][each.metric] = each.reason
    assert said["set/web/blank"] == {"perplexity_word": "no words"}
    assert said["set/code/code"] == {"perplexity_word": "above 1e308 (8000 nats per word)"}
    assert said["set/web/empty"] == {
        "loss": "no tokens",
        "bits_per_byte": "no bytes",
        "perplexity_token": "no tokens",
        "perplexity_word": "no words",
        "perplexity_char": "no chars",
        "perplexity_byte": "no bytes",
    }
    assert len(said) == 3
