"""Documents, windows and figures, each against the definition written out by hand."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from olmo_core.errors import InputError
from olmo_core.evals.paloma import Document, batches, figure_rows, read_documents, windows


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


def test_figures_by_hand() -> None:
    documents = [
        Document(id="1", source="web", domain="web", text="two words"),  # 9 bytes
        Document(id="2", source="code", domain="python", text="naïve"),  # 5 chars, 6 bytes
        Document(id="3", source="code", domain="c", text="int x;"),
    ]
    tokens, nats = [4, 3, 2], [-8.0, -9.0, -2.0]
    rows, left_out = figure_rows(documents, tokens, nats, name="held_out")
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
    texts = {
        ("web", "empty"): ("", 0, 0.0),
        ("web", "blank"): ("   ", 1, -1.0),
        ("web", "full"): ("two words", 4, -8.0),
        ("code", "code"): ("x" * 5000, 2000, -8000.0),  # one word
        ("prose", "prose"): ("one", 1, -2.0),
    }
    documents = [
        Document(id=domain, source=source, domain=domain, text=text)
        for (source, domain), (text, _, _) in texts.items()
    ]
    tokens, nats = zip(*((count, value) for _, count, value in texts.values()), strict=True)
    rows, left_out = figure_rows(documents, tokens, nats, name="set")
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
    said = {(each.source, each.domain): {} for each in left_out}
    for each in left_out:
        said[each.source, each.domain][each.metric] = each.reason
    assert said[("web", "blank")] == {"perplexity_word": "no words"}
    assert said[("code", "code")] == {"perplexity_word": "above 1e308 (8000 nats per word)"}
    assert said[("web", "empty")] == {
        "loss": "no tokens",
        "bits_per_byte": "no bytes",
        "perplexity_token": "no tokens",
        "perplexity_word": "no words",
        "perplexity_char": "no chars",
        "perplexity_byte": "no bytes",
    }
    assert len(said) == 3


def write(folder: Path, content: bytes) -> Path:
    path = folder / "web" / "val" / "a.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


LINE = b'{"id": "1", "text": "x", "added": "", "source": "web"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(LINE * 2000, mtime=0)[:-20], r"a\.jsonl\.gz: the gzip stream is truncated"),
        (b"plain text", "the gzip stream is truncated or damaged after line 0"),
        (gzip.compress(LINE + b'{"id": \n', mtime=0), ":2: not valid JSON"),
        (gzip.compress(LINE + b'{"id": "1"}\n', mtime=0), ":2: key 'text' is missing"),
        (gzip.compress(b'{"text": null}\n'), ":1: key 'text' is a NoneType; expected a string"),
        (gzip.compress(b'{"text": 5}\n'), ":1: key 'text' is a int; expected a string"),
        (gzip.compress(b'{"text": "\\ud800"}\n'), ":1: key 'text' holds a lone surrogate"),
        (
            gzip.compress(b'{"text": "x", "subdomain": "\\udc00"}\n'),
            ":1: key 'subdomain' holds a lone surrogate",
        ),
        (gzip.compress(b'{"text": "x", "id": "\\udc00"}\n'), ":1: key 'id' holds a lone surr"),
        (
            gzip.compress(b'{"text": "x", "subdomain": ["a"]}\n'),
            ":1: key 'subdomain' is a list; expected a string or a whole number",
        ),
        (gzip.compress(b'{"text": "x", "subdomain": false}\n'), ":1: key 'subdomain' is a bool"),
        (gzip.compress(b'{"text": ""}\n'), "1 documents, all empty; expected <source>/val"),
        (gzip.compress(b'["id"]\n', mtime=0), ":1: found list; expected one JSON object"),
        (
            gzip.compress(LINE + b'{"id": "2", "text": "\xff"}\n', mtime=0),
            r"a\.jsonl\.gz:2: byte 0xff .* is not UTF-8",
        ),
    ],
)
def test_bad_documents_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, content)
    with pytest.raises(InputError, match=message):
        read_documents(tmp_path)


def test_names_may_be_numbers_or_missing(tmp_path: Path) -> None:
    lines = [
        b'{"id": 7, "text": "x", "subdomain": 0}',
        b'{"text": "", "subdomain": "py"}',
        b'{"id": null, "text": "y", "subdomain": ""}',
    ]
    write(tmp_path, gzip.compress(b"\n".join(lines)))
    assert read_documents(tmp_path) == [
        Document(id="7", source="web", domain="0", text="x"),
        Document(id="a.jsonl.gz:2", source="web", domain="py", text=""),
        Document(id="a.jsonl.gz:3", source="web", domain="web", text="y"),
    ]


def test_documents_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(LINE + LINE.replace(b'"1"', b'"2"')))
    assert [document.id for document in read_documents(tmp_path)] == ["1", "2"]
    assert len(read_documents(tmp_path, bytes_per_source=1)) == 1
    assert len(read_documents(tmp_path, bytes_per_source=2)) == 2
    with pytest.raises(InputError, match="no documents"):
        read_documents(tmp_path / "web")
