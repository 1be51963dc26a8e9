"""What texts that are hardly any become, and ids that two bytes do not hold."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from olmo_core.corpus.document import Document, write_documents
from olmo_core.corpus.tokens import pack, tokenizer, tokens
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.errors import InputError
from olmo_core.files import read_json, write_json

AS_READ = TokensConfig(document_order="as_read")


def of_texts(folder: Path, texts: list[str]) -> Path:
    """What `filtered` leaves of a source of these texts."""
    documents = [Document(id=f"s/{n}", text=text, source="s") for n, text in enumerate(texts)]
    write_documents(folder / "documents" / "s" / "part-00000.jsonl.gz", documents)
    write_json(folder / "result.json", {"digest": "of these texts"})
    return folder


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"empty document \(key 'text', id 's/1'\); expected text, remove the line"),
        (" \n\t", r"empty document \(key 'text', id 's/1'\)"),
        ("\u3000\u2028\x1c", r"empty document \(key 'text', id 's/1'\)"),
        ("a\ud800b", r"key 'text' holds a lone surrogate at character 1; expected text that can"),
        ("\udfff", r"key 'text' holds a lone surrogate at character 0"),
    ],
    ids=["empty", "blank", "blank by Unicode", "high surrogate", "low surrogate"],
)
def test_a_text_that_is_none_ends_it(
    tmp_path: Path, tokenizer_run: Path, run: Any, text: str, message: str, strip: bool
) -> None:
    filtered = of_texts(tmp_path / "filtered", ["fine"])
    path = filtered / "documents" / "s" / "part-00000.jsonl.gz"
    line = json.dumps({"id": "s/1", "text": text, "source": "s"}).encode()
    path.write_bytes(path.read_bytes() + gzip.compress(line + b"\n"))
    config = TokensConfig(strip=strip)
    with pytest.raises(InputError, match=rf"part-00000\.jsonl\.gz:2: {message}"):
        run(tokens, tmp_path / "run", config, {"filtered": filtered, "tokenizer": tokenizer_run})
    assert not (tmp_path / "run" / "result.json").exists()


def test_surrogates_in_a_pair_are_a_character(
    tmp_path: Path, tokenizer_run: Path, run: Any
) -> None:
    filtered = of_texts(tmp_path / "filtered", ["🙂"])
    path = filtered / "documents" / "s" / "part-00000.jsonl.gz"
    escaped = b'{"id": "s/1", "text": "\\ud83d\\ude42", "source": "s"}\n'
    path.write_bytes(path.read_bytes() + gzip.compress(escaped))
    inputs = {"filtered": filtered, "tokenizer": tokenizer_run}
    folder = run(tokens, tmp_path / "run", AS_READ, inputs)
    ids = np.fromfile(folder / "tokens" / "s" / "part-0-00000.npy", "<u2").tolist()
    assert ids[: len(ids) // 2] == ids[len(ids) // 2 :]
    assert len(ids) > 2


def released(folder: Path, model: Tokenizer, filtered: Path, run: Any) -> Path:
    """A run of `tokenizer` that takes a file of this one."""
    model.add_special_tokens(["<|end|>"])
    model.save(str(folder / "released.json"))
    size = max(model.get_vocab().values()) + 1
    config = TokenizerConfig(
        vocab_size=size, file=str(folder / "released.json"), eos_token="<|end|>", pad_token=None
    )
    return run(tokenizer, folder / "tokenizer", config, {"filtered": filtered})


def test_a_text_without_a_token_is_its_eos(tmp_path: Path, tokenizer_run: Path, run: Any) -> None:
    """Where a normaliser leaves nothing of it; a document, in the rows as well."""
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "x"}, "content": ""}
    filtered = of_texts(tmp_path / "filtered", ["one", "xxx", "two"])
    model = Tokenizer.from_str(json.dumps(content))
    made = released(tmp_path, model, filtered, run)
    end = model.token_to_id("<|end|>")
    folder = run(tokens, tmp_path / "run", AS_READ, {"filtered": filtered, "tokenizer": made})
    ids = np.fromfile(folder / "tokens" / "s" / "part-0-00000.npy", "<u2").tolist()
    one, two = (model.encode(text, add_special_tokens=False).ids for text in ("one", "two"))
    assert ids == [*one, end, end, *two, end]
    with gzip.open(folder / "tokens" / "s" / "part-0-00000.csv.gz", "rt") as lines:
        starts = [line.split(",")[:3] for line in lines]
    n = len(one) + 1
    expected = [
        ["0", f"{n}", "s/0"],
        [f"{n}", f"{n + 1}", "s/1"],
        [f"{n + 1}", f"{len(ids)}", "s/2"],
    ]
    assert starts == expected


def test_ids_above_two_bytes_are_kept(tmp_path: Path, run: Any) -> None:
    """Every pair of bytes is a token: 65,792 of them, those that begin with ~ the last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda each: (each.isascii(), each))
    pairs = [(one, other) for one in letters for other in letters]
    vocabulary = {token: n for n, token in enumerate([*letters, *map("".join, pairs)])}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    texts = ["a~!b~#c~/d~~e~|f~}g~{", "~~}}", "naïve Ærø 北京", "plain text"]
    filtered = of_texts(tmp_path / "filtered", texts)
    made = released(tmp_path, model, filtered, run)
    inputs = {"filtered": filtered, "tokenizer": made}
    folder = run(tokens, tmp_path / "run", AS_READ, inputs)
    path = folder / "tokens" / "s" / "part-0-00000.npy"
    ids = np.fromfile(path, "<u4")
    assert read_json(path.with_suffix(".json"))["dtype"] == "uint32"
    end = model.token_to_id("<|end|>")
    assert end == len(vocabulary) > 2**16
    expected = [[*model.encode(text, add_special_tokens=False).ids, end] for text in texts]
    assert ids.tolist() == [number for each in expected for number in each]
    # More than the EOS is above two bytes, and nothing was cut to them.
    assert sum(number >= 2**16 for each in expected for number in each[:-1]) > 5
    assert model.decode([n for n in ids.tolist() if n != end]) == "".join(texts)
    report = read_json(folder / "result.json")["report"]
    assert report["numbers"]["encoded_by"] == "tiktoken"


def test_token_files_keep_their_order_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task numbers its files as it writes them, from the 100,000th on with a digit more."""
    monkeypatch.setattr("olmo_core.corpus.document.LEAST_DIGITS", 1)
    (tmp_path / "task").mkdir()
    for number in range(12):
        for suffix in ("npy", "csv.gz", "json"):
            (tmp_path / "task" / f"part-0-{number}.{suffix}").write_text(f"{number} {suffix}")
    pack.link_files([tmp_path / "task"], tmp_path / "all")
    for suffix in ("npy", "csv.gz", "json"):
        found = [path.read_text() for path in sorted((tmp_path / "all").glob(f"*.{suffix}"))]
        assert found == [f"{number} {suffix}" for number in range(12)]
