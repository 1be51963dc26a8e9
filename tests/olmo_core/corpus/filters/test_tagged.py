"""Asset `tagged`: real taggers on documents whose tags can be counted by hand."""

import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.toolkit import ToolkitError, toolkit_python
from olmo_core.errors import ConfigError, InputError

PROSE = """The cat sat with the dog on the mat, and that was that.
{ lorem ipsum }
It was good."""
MAIL = "Write to someone@example.org or call us at (555) 123-4567 today.\nThat is all there is."


@pytest.fixture
def hand_written(corpus: Any) -> Any:
    corpus.write_held_out(
        {
            "prose": {"1": PROSE, "2": MAIL, "3": "Nothing special, naïve or not, stands here."},
            "code": {"1": "x = {1: 2}\n" * 5},
        }
    )
    return corpus


def test_tags_are_those_counted_by_hand(hand_written: Any) -> None:
    taggers = ["gopher_v2", "c4_v2", "pii_regex_with_counts_fast_v2"]
    config = {"taggers": {"prose": taggers, "code": ["c4_v2"]}}
    result = hand_written.run("tagged", config)
    assert result["report"]["numbers"]["documents"] == 4
    tags = hand_written.attributes("tagged", "tags")
    whole = [0, len(PROSE)]
    assert tags["prose/1"]["tags__gopher_v2__word_count"] == [[*whole, 20]]
    # with, the, the, and, that; not "The" and not "that."
    assert tags["prose/1"]["tags__gopher_v2__required_word_count"] == [[*whole, 5]]
    alphabetic = tags["prose/1"]["tags__gopher_v2__fraction_of_words_with_alpha_character"]
    assert alphabetic[0][2] == pytest.approx(18 / 20)  # all but the braces
    assert tags["prose/1"]["tags__c4_v2__has_lorem_ipsum"] == [[*whole, 1]]
    assert tags["prose/1"]["tags__c4_v2__has_curly_brace"] == [[*whole, 1]]
    assert tags["prose/1"]["tags__c4_v2__line_count"] == [[*whole, 3]]
    first = PROSE.index("\n") + 1
    assert tags["prose/1"]["tags__c4_v2__lines_with_no_ending_punctuation"] == [
        [first, first + len("{ lorem ipsum }\n"), 1]
    ]
    assert tags["prose/2"]["tags__pii_regex_with_counts_fast_v2__doc_count"][0][2] == 2
    (start, end, _), *_ = tags["prose/2"]["tags__pii_regex_with_counts_fast_v2__EMAIL_ADDRESS"]
    assert MAIL[start:end].strip() == "someone@example.org"
    assert tags["prose/3"]["tags__pii_regex_with_counts_fast_v2__doc_count"][0][2] == 0
    assert set(tags["code/1"]) == {
        "tags__c4_v2__has_curly_brace",
        "tags__c4_v2__line_count",
        "tags__c4_v2__lines_with_no_ending_punctuation",
        "tags__c4_v2__lines_with_too_few_words",
    }


def test_every_source_needs_its_taggers(hand_written: Any) -> None:
    with pytest.raises(ConfigError, match=r"missing \['code'\], unknown \['cod'\]"):
        hand_written.run("tagged", {"taggers": {"prose": ["c4_v2"], "cod": ["c4_v2"]}})
    with pytest.raises(ConfigError, match="'ft_lang_id_en' is not known to work offline"):
        hand_written.run("tagged", {"taggers": {"prose": ["ft_lang_id_en"]}})


def test_a_damaged_document_file_never_reaches_the_toolkit(hand_written: Any) -> None:
    path = hand_written.folder("held_out") / "documents" / "prose" / "part-00000.jsonl.gz"
    content = path.read_bytes()
    config = {"taggers": {"prose": ["c4_v2"], "code": ["c4_v2"]}}
    path.write_bytes(content[:-10])
    with pytest.raises(InputError, match=r"prose/part-00000\.jsonl\.gz: the gzip stream is trunc"):
        hand_written.run("tagged", config)
    hand_written.write_lines(path, [hand_written.document("prose", "1", " ")])
    with pytest.raises(InputError, match=r"part-00000\.jsonl\.gz:1: empty document"):
        hand_written.run("tagged", config)
    assert not (hand_written.folder("tagged") / "result.json").exists()
    assert not (hand_written.folder("tagged") / "attributes").exists()


TRAIN = """
import fasttext, sys
words = {"en": "the cat sat on the mat", "de": "die Katze sass auf der Matte"}
with open(sys.argv[1] + ".txt", "w") as lines:
    lines.writelines(f"__label__{k} {v} {n}\\n" for n in range(50) for k, v in words.items())
made = fasttext.train_supervised(
    sys.argv[1] + ".txt", dim=8, epoch=20, bucket=100, thread=1, verbose=0
)
made.save_model(sys.argv[1])
"""
OWN = """
from dolma import add_tagger, BaseTagger
from dolma.core.data_types import DocResult, Span

@add_tagger("vowels")
class Vowels(BaseTagger):
    def predict(self, doc):
        found = [Span(n, n + 1, "vowel", 1.0) for n, c in enumerate(doc.text) if c in "aeiou"]
        return DocResult(doc=doc, spans=found)
"""


def test_fasttext_models_and_taggers_of_ones_own(hand_written: Any, tmp_path: Path) -> None:
    model, own = tmp_path / "toy.bin", tmp_path / "mine.py"
    subprocess.run([str(toolkit_python()), "-I", "-c", TRAIN, str(model)], check=True)
    own.write_text(OWN)
    config = {
        "taggers": {"prose": ["english", "vowels"], "code": ["lines"]},
        "fasttext": {
            "english": {"model": str(model), "labels": ["en"]},
            "lines": {"model": str(model), "unit": "paragraph"},
        },
        "own_taggers": {"vowels": str(own)},
    }
    result = hand_written.run("tagged", config)
    assert set(result["report"]["data"]["tagger_files"]) == {"english", "lines", "vowels"}
    tags = hand_written.attributes("tagged", "tags")
    assert {key for name in "123" for key in tags[f"prose/{name}"]} == {
        "tags__english__en",
        "tags__vowels__vowel",
    }
    ((start, end, score),) = tags["prose/1"]["tags__english__en"]
    assert (start, end) == (0, len(PROSE))
    assert 0.5 < score <= 1
    text = "Nothing special, naïve or not, stands here."
    vowels = [[n, n + 1, 1.0] for n, letter in enumerate(text) if letter in "aeiou"]
    assert tags["prose/3"]["tags__vowels__vowel"] == vowels
    assert [len(spans) for spans in tags["code/1"].values()] == [5, 5]
    both = zip(*tags["code/1"].values(), strict=True)
    assert all(one[2] + other[2] == pytest.approx(1, abs=1e-4) for one, other in both)
    rows = {
        (row["source"], row["tagger"], row["label"]): row
        for row in result["report"]["tables"]["scores"]
    }
    assert set(rows) == {
        ("prose", "english", "en"),
        ("code", "lines", "de"),
        ("code", "lines", "en"),
    }
    scores = [tags[f"prose/{name}"]["tags__english__en"][0][2] for name in "123"]
    english = rows["prose", "english", "en"]
    assert english["documents"] == 3
    assert english["at_least_half"] == sum(score >= 0.5 for score in scores)
    assert english["mean"] == pytest.approx(statistics.mean(scores), abs=1e-4)
    assert english["median"] <= statistics.median(scores) < english["median"] + 0.01
    # Five equal lines: the document's score is the line's.
    line = tags["code/1"]["tags__lines__en"][0][2]
    assert rows["code", "lines", "en"]["mean"] == pytest.approx(line, abs=1e-4)


def test_what_a_file_of_taggers_lacks_is_named(hand_written: Any, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN)
    config = {
        "taggers": {"prose": ["consonants"], "code": ["c4_v2"]},
        "own_taggers": {"consonants": str(own)},
    }
    with pytest.raises(ToolkitError, match=r"mine\.py: registers no tagger 'consonants'"):
        hand_written.run("tagged", config)
    config["own_taggers"] = {"consonants": "${NOWHERE}/mine.py"}
    with pytest.raises(ConfigError, match=r"own_taggers: consonants: file .*: expected a file"):
        hand_written.run("tagged", config)
    config["own_taggers"] = {"consonants": str(own), "c4_v2": str(own)}
    with pytest.raises(ConfigError, match=r"\['c4_v2'\]: names of two taggers"):
        hand_written.run("tagged", config)


def test_a_name_of_dolmas_own_is_refused(hand_written: Any, tmp_path: Path) -> None:
    """dolma would keep its own tagger, and say nothing."""
    model, own = tmp_path / "toy.bin", tmp_path / "mine.py"
    subprocess.run([str(toolkit_python()), "-I", "-c", TRAIN, str(model)], check=True)
    own.write_text(OWN)
    taken = {"prose": ["random_number_v1"], "code": ["c4_v2"]}
    for key, entry in (("fasttext", {"model": str(model)}), ("own_taggers", str(own))):
        config = {"taggers": taken, key: {"random_number_v1": entry}}
        with pytest.raises(ToolkitError, match="a tagger 'random_number_v1' already, of dolma's"):
            hand_written.run("tagged", config)


@pytest.mark.parametrize("span", ['n, n + 1, "vowel", float("nan")', 'n, n + 1000, "vowel", 1.0'])
def test_a_span_of_ones_own_tagger_that_is_none_is_named(
    hand_written: Any, tmp_path: Path, span: str
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN.replace('n, n + 1, "vowel", 1.0', span).replace("aeiou", "x"))
    taggers = {"prose": ["c4_v2"], "code": ["vowels"]}
    config = {"taggers": taggers, "own_taggers": {"vowels": str(own)}}
    with pytest.raises(ToolkitError, match=r"vowels: tags__vowels__vowel of 'code/1' is \[0, "):
        hand_written.run("tagged", config)


def test_a_label_may_be_given_once(hand_written: Any) -> None:
    config = {
        "taggers": {"prose": ["language"], "code": ["c4_v2"]},
        "fasttext": {"language": {"model": "lid.bin", "labels": ["en", "de", "en"]}},
    }
    with pytest.raises(ConfigError, match=r"labels \['en', 'de', 'en'\]: one is given twice"):
        hand_written.run("tagged", config)
