"""Texts of documents that lm-eval's templates cannot say: HellaSwag, COPA, WinoGrande."""

import re
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def hellaswag_text(text: str) -> str:
    """Return a text of HellaSwag without the marks that WikiHow's pages left in it."""
    text = re.sub(r"\.? \[title\]", ". ", text)
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag_context(document: Document) -> str:
    """Return `Activity: first sentence Second …`, which the endings continue."""
    return hellaswag_text(_hellaswag_begin(document).strip())


def hellaswag_question(document: Document) -> str:
    """Return the context with its endings as lettered choices."""
    endings = zip("ABCD", hellaswag_endings(document), strict=True)
    return "\n".join(
        [
            hellaswag_text(_hellaswag_begin(document)),
            "Choose the best continuation:",
            *(f" {letter}. {ending.strip()}" for letter, ending in endings),
            "Answer:",
        ]
    )


def _hellaswag_begin(document: Document) -> str:
    second = document["ctx_b"].capitalize()
    return f"{document['activity_label']}: {document['ctx_a']} {second}"


def hellaswag_endings(document: Document) -> list[str]:
    """Return the four endings."""
    return [hellaswag_text(ending.strip()) for ending in document["endings"]]


def hellaswag_right(document: Document) -> int:
    """Return the number of the right ending."""
    return int(document["label"])


def copa_premise(document: Document) -> str:
    """Return the premise without its full stop, and the word that an alternative follows."""
    word = {"cause": "because", "effect": "therefore"}[document["question"]]
    return f"{document['premise'].strip()[:-1]} {word}"


def copa_alternatives(document: Document) -> list[str]:
    """Return both alternatives, which begin with a small letter after the premise."""
    choices = (document["choice1"], document["choice2"])
    return [choice[0].lower() + choice[1:] for choice in choices]


def winogrande_contexts(document: Document) -> list[str]:
    """Return the sentence up to its blank, filled with either option."""
    before, _, _ = document["sentence"].partition("_")
    return [before + document[option] for option in ("option1", "option2")]


def winogrande_continuation(document: Document) -> str:
    """Return the sentence after its blank."""
    _, _, after = document["sentence"].partition("_")
    return after.strip()
