import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from olmo_core.config.load import build
from olmo_core.corpus.document import Document, read_folder, write_shards
from olmo_core.corpus.tokens import learnt, tokenizer
from olmo_core.corpus.tokens.learnt import choose_texts
from olmo_core.corpus.tokens.tokenizer import (
    TokenizerConfig,
    read_released,
    shorten,
    tokenizer_identity,
    train,
)
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import read_json, sha256_file
from olmo_core.run.job import Job


def test_what_it_reports(tokenizer_run: Path) -> None:
    report = read_json(tokenizer_run / "result.json")["report"]
    assert report["data"] == {
        "vocab_size": 900,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "bos_token_id": None,
        "sha256": sha256_file(tokenizer_run / "tokenizer.json"),
    }
    assert [row["source"] for row in report["tables"]["sources"]] == ["code", "odd"]
    assert report["numbers"]["bytes_per_token"] > 2
    assert len(report["samples"]["encodings"]) == 2


def test_every_text_comes_back(filtered: Path, tokenizer_run: Path) -> None:
    trained = Tokenizer.from_file(str(tokenizer_run / "tokenizer.json"))
    for document in read_folder(filtered):
        ids = trained.encode(document.text).ids
        assert trained.decode(ids, skip_special_tokens=False) == document.text


@pytest.mark.parametrize("processes", [1, 3])
def test_the_same_corpus_gives_the_same_files(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, processes: int
) -> None:
    """In processes of their own, with another number of threads and another hash seed."""
    (tmp_path / "config.yaml").write_text(
        f"config: {{vocab_size: 900}}\ninputs: {{filtered: {filtered}}}\n"
    )
    command = [
        sys.executable,
        "-m",
        "olmo_core.corpus.tokens.tokenizer",
        str(tmp_path / "config.yaml"),
    ]
    environment = {"PYTHONHASHSEED": str(processes), "OLMO_PROCESSES": str(processes)}
    subprocess.run(command, check=True, env=environment, cwd=Path.cwd(), capture_output=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_bytes() == (tokenizer_run / name).read_bytes()


def test_transformers_loads_it_offline(filtered: Path, tokenizer_run: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer_run)
    assert (loaded.eos_token, loaded.eos_token_id) == ("<|endoftext|>", 0)
    assert (loaded.pad_token, loaded.pad_token_id) == ("<|padding|>", 1)
    assert loaded.bos_token is None
    assert len(loaded) == 900
    trained = Tokenizer.from_file(str(tokenizer_run / "tokenizer.json"))
    for document in read_folder(filtered):
        assert loaded(document.text).input_ids == trained.encode(document.text).ids
    assert loaded.decode(loaded("it 's , is n't .").input_ids) == "it 's , is n't ."


def blake2b(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=8).digest()


def sample(source: Path, job: Path, *, max_bytes: int) -> list[str]:
    """A sample of one source."""
    with Job.open(job) as opened:
        opened.processes = 1
        names = [source.name]
        found = choose_texts(source.parent, names, opened, reads="", max_bytes=max_bytes)
    return found[source.name]


def test_a_sample_is_all_that_is_held_of_a_source(tmp_path: Path) -> None:
    documents = (Document(id=f"s/{n}", text=f"{n:06d}", source="s") for n in range(50_000))
    write_shards(tmp_path / "s", documents, shard_bytes=60_000)
    tracemalloc.start()
    assert len(sample(tmp_path / "s", tmp_path / "job", max_bytes=600)) == 100
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize("group_shards", [1, 3, 64])
def test_a_sample_is_spread_and_a_larger_one_holds_it(
    filtered: Path, tmp_path: Path, group_shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnt, "GROUP_SHARDS", group_shards)
    source = filtered / "documents" / "code"
    everything = sample(source, tmp_path, max_bytes=1 << 40)
    assert everything == [each.text for each in read_folder(source)]
    half = sample(source, tmp_path, max_bytes=100_000)
    quarter = sample(source, tmp_path, max_bytes=50_000)
    # It ends before the first document that would be too much, however large that one is.
    largest = max(len(text.encode()) for text in everything)
    assert 100_000 - largest < sum(len(text.encode()) for text in half) <= 100_000
    assert [text for text in everything if text in set(half)] == half
    assert set(quarter) <= set(half) <= set(everything)
    chosen = sorted(read_folder(source), key=lambda each: blake2b(each.id.encode()))
    first = next(each for each in chosen if each.text_bytes > 1)
    assert sample(source, tmp_path, max_bytes=1) == [first.text]
    sizes = itertools.accumulate(each.text_bytes for each in chosen)
    taken = [each.text for each, size in zip(chosen, sizes, strict=True) if size <= 100_000]
    assert sorted(half) == sorted(taken)
    assert everything.index(half[-1]) > 0.9 * len(everything)
    assert len(sample(source, tmp_path, max_bytes=1)) == 1


def test_too_little_text_for_the_vocabulary() -> None:
    with pytest.raises(InputError, match="the corpus gives 258 entries, vocab_size is 300"):
        train(["abc"], TokenizerConfig(vocab_size=300))


@pytest.mark.parametrize("error", [MemoryError("no room"), GeneratorExit("panic")], ids=str)
def test_what_ends_the_learning_ends_the_job(error: BaseException) -> None:
    class Texts(list[str]):
        def __iter__(self) -> Any:
            yield "one text"
            raise error

    with pytest.raises(type(error), match=str(error)):
        train(Texts(), TokenizerConfig(vocab_size=300))


def test_bad_configurations() -> None:
    for section, message in (
        ({"vocab_size": 100}, "expected at least 258"),
        ({"vocab_size": 257}, r"at least 258 \(256 bytes, eos_token, pad_token\)"),
        ({"vocab_size": 300, "eos_token": "x", "pad_token": "x"}, "different names"),
        ({"vocab_size": 300, "eos_token": "x", "bos_token": "x"}, "different names"),
        ({"vocab_size": 300, "pad_token": ""}, "different names"),
        ({"vocab_size": 300, "max_bytes_per_source": 0}, "max_bytes_per_source is 0; expected 1"),
        ({"vocab_size": 300, "min_frequency": -1}, "min_frequency is -1; expected 0 or more"),
        ({"vocab_sise": 300}, "vocab_size"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(tokenizer.TokenizerConfig, section, where="tokenizer")


def test_a_released_tokenizer_is_taken_as_it_is(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = tmp_path / "tokenizer.json"
    content = (tokenizer_run / "tokenizer.json").read_bytes().replace(b"\n", b"\r\n")
    released.write_bytes(content)  # bytes that saving it again would change
    monkeypatch.setenv("RELEASED", str(tmp_path))
    config = TokenizerConfig(vocab_size=900, file="${RELEASED}/tokenizer.json")
    folder = run(tokenizer, tmp_path / "run", config, {"filtered": filtered})
    assert (folder / "tokenizer.json").read_bytes() == content
    report = read_json(folder / "result.json")["report"]
    assert report["data"]["sha256"] == sha256_file(released)
    assert (report["data"]["eos_token_id"], report["numbers"]["trained_on_bytes"]) == (0, 0)
    assert tokenizer_identity(config) == {"file_sha256": sha256_file(released)}
    assert tokenizer_identity(TokenizerConfig(vocab_size=900)) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "${NOWHERE}/tokenizer.json"}, r"'\$\{NOWHERE\}/tokenizer\.json'.*expected a"),
        ({"vocab_size": 901}, "900 entries with ids up to 899; .* is 901, expected 900"),
        ({"pad_token": "<|pad|>"}, r"no entry '<\|pad\|>'"),
        ({"file": "{run}/result.json"}, "not a tokenizer.json"),
    ],
)
def test_a_released_tokenizer_that_does_not_fit(
    tokenizer_run: Path, changes: dict[str, Any], message: str
) -> None:
    values = {"vocab_size": 900, "file": "{run}/tokenizer.json", **changes}
    values["file"] = values["file"].replace("{run}", str(tokenizer_run))
    with pytest.raises((ConfigError, InputError), match=message):
        read_released(TokenizerConfig(**values))


def test_a_tokenizer_with_dropout_is_refused(tmp_path: Path, tokenizer_run: Path) -> None:
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.1
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"json: model\.dropout is 0\.1:.*expected null"):
        read_released(TokenizerConfig(vocab_size=900, file=str(path)))


def test_a_vocabulary_with_holes_is_as_large_as_its_highest_id(
    tmp_path: Path, filtered: Path, tokenizer_run: Path, run
) -> None:
    content = json.loads((tokenizer_run / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary[last] = 1005
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    file = str(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"900 entries with ids up to 1005; .* expected 1006"):
        read_released(TokenizerConfig(vocab_size=900, file=file))
    config = TokenizerConfig(vocab_size=1006, file=file)
    folder = run(tokenizer, tmp_path / "run", config, {"filtered": filtered})
    assert read_json(folder / "result.json")["report"]["data"]["vocab_size"] == 1006


def test_pad_is_optional_and_bos_may_be_named(
    tmp_path: Path, filtered: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoTokenizer

    config = TokenizerConfig(vocab_size=400, pad_token=None, bos_token="<|begin|>")
    folder = run(tokenizer, tmp_path / "run", config, {"filtered": filtered})
    data = read_json(folder / "result.json")["report"]["data"]
    assert (data["eos_token_id"], data["pad_token_id"], data["bos_token_id"]) == (0, None, 1)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.bos_token_id) == (0, None, 1)


def test_a_pre_token_is_learnt_from_up_to_a_length() -> None:
    """Against the pre-tokens themselves, of runs of every class and of what stands around them."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    long = 1500
    texts = ["short", "a " + " " * long + "x", "\n" * long, "x\n" + "é" * long + " 's y"]
    texts += ["1" * long + "a" * long + "-" * long, "\x1c!" * long, "- " * long]
    learnt, count = shorten(texts)
    for text, some in zip(texts, learnt, strict=True):
        whole = [piece for _, (a, b) in split.pre_tokenize_str(text) for piece in [text[a:b]]]
        left = [piece for _, (a, b) in split.pre_tokenize_str(some) for piece in [some[a:b]]]
        assert left == [piece[:1024] for piece in whole]
    assert (learnt[0], learnt[-1]) == (texts[0], texts[-1])
    assert count == 7


@pytest.mark.parametrize(
    "letters",
    [" ", "a", "=", "\u5b57", "".join(map(chr, range(0x4E00, 0x5E00)))],
    ids=["blanks", "a", "=", "one CJK letter", "CJK text"],
)
def test_a_long_pre_token_does_not_hold_up_the_training(filtered: Path, letters: str) -> None:
    texts = [each.text for each in read_folder(filtered)]
    began = time.monotonic()
    learnt, count = shorten([*texts, letters * (1_000_000 // len(letters)) + "\nend"])
    train(learnt, TokenizerConfig(vocab_size=900))
    assert count == 2  # and one of the source `odd`
    assert time.monotonic() - began < 60  # of blanks more than nine minutes without the bound


def test_sigterm_is_heard_while_it_trains(tmp_path: Path) -> None:
    """A training that takes minutes, without the bound, ends at once."""
    code = (
        "import signal, sys\n"
        "from olmo_core.corpus.tokens.tokenizer import TokenizerConfig, train\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))\n"
        "print('ready', flush=True)\n"
        "train([' ' * 400_000], TokenizerConfig(vocab_size=300))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 43
