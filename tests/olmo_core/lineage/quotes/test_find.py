"""Quotes in token files: an index and a scan against a search of the documents themselves."""

from pathlib import Path

import numpy as np
import pytest

from olmo_core.errors import InputError
from olmo_core.lineage.quotes.build import build_shard, token_files
from olmo_core.lineage.quotes.find import Place, TooShort, find, scan
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from tests.olmo_core.lineage.quotes.corpora import KINDS, documents, planted, write_tokens
from tests.olmo_core.lineage.quotes.indexes import DIGEST, build


@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_quote_is_found_wherever_it_stands(kind: str, tmp_path: Path) -> None:
    """Of starts, middles and ends, over the borders of shards and of what is decoded at once."""
    tokenizer, texts = tmp_path / "tokenizer.json", documents(kind)
    KINDS[kind]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, texts)
    build(tmp_path, shard_tokens=40_000)
    index = QuotesIndex(tmp_path / "index", tokens=tmp_path, digest=DIGEST)
    assert len(index.shards) > 3
    text, files = TokenText(tmp_path, TokenBytes(tokenizer)), token_files(tmp_path)
    whole = {file: text.read(file, 0, tokens) for file, tokens in files.items()}
    for number, quote in enumerate(planted(texts, MATCH_BYTES, 250, seed=11)):
        expected = {
            Place(
                file=file,
                start=int(np.searchsorted(edges, at, "right")) - 1,
                stop=int(np.searchsorted(edges, at + len(quote), "left")),
            )
            for file, (content, edges) in whole.items()
            for at in places(content.tobytes(), quote)
        }
        found = [*find(index, text, quote)]
        assert found == sorted(expected)
        # An oracle that knows of no tokens: a document holds it.
        assert len(found) >= sum(quote.decode() in each for each in texts) >= 1
        for place in found:
            content, _ = text.read(place.file, place.start, place.stop)
            assert quote in content.tobytes()
        if number % 50 == 0:
            assert [*scan(text, files, quote, lambda done, total: None)] == found


def places(content: bytes, quote: bytes) -> list[int]:
    found, at = list[int](), -1
    while (at := content.find(quote, at + 1)) >= 0:
        found.append(at)
    return found


def test_a_scan_finds_what_lies_over_the_border_of_two_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmo_core.lineage.quotes.find._AT_ONCE", 50)
    tokenizer, texts = tmp_path / "tokenizer.json", documents()[-10:]
    KINDS["byte_level"]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, texts)
    build(tmp_path)
    index = QuotesIndex(tmp_path / "index", tokens=tmp_path, digest=DIGEST)
    text, files = TokenText(tmp_path, TokenBytes(tokenizer)), token_files(tmp_path)
    said: list[tuple[int, int]] = []
    for quote in planted(texts, MATCH_BYTES, 30, seed=2):
        found = [*scan(text, files, quote, lambda done, total: said.append((done, total)))]
        assert found == [*find(index, text, quote)]
    assert said[0] == (0, sum(files.values()))
    assert max(said) == (sum(files.values()), sum(files.values()))


def test_parts_that_are_decoded_at_once_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard made in parts has the places of one made whole, and few more at the borders."""
    tokenizer, texts = tmp_path / "tokenizer.json", documents()
    KINDS["byte_level"]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, texts, files=1)
    [(file, tokens)] = token_files(tmp_path).items()
    postings: list[set[int]] = []
    for number, at_once in enumerate((1 << 18, 300)):
        monkeypatch.setattr("olmo_core.lineage.quotes.build._AT_ONCE", at_once)
        shard = build_shard(tmp_path, number, tmp_path, tokenizer, file, 0, tokens)
        content = np.fromfile(tmp_path / f"{number:06d}.postings", dtype="<u8")
        postings.append({*content[: shard.postings].tolist()})
    assert postings[0] <= postings[1]
    assert len(postings[1]) < 1.02 * len(postings[0])


def test_what_is_not_there_and_what_is_too_short(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    KINDS["byte_level"]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, documents())
    build(tmp_path)
    index = QuotesIndex(tmp_path / "index", tokens=tmp_path, digest=DIGEST)
    text = TokenText(tmp_path, TokenBytes(tokenizer))
    quote = documents()[3][:200]
    assert [*find(index, text, quote.encode())]
    assert not [*find(index, text, quote[:-1].encode() + b"\xff")]
    short = quote[: MATCH_BYTES - 1].encode()
    with pytest.raises(TooShort, match=rf"{MATCH_BYTES} bytes.*has {len(short)}"):
        next(find(index, text, short))
    with pytest.raises(TooShort):
        next(scan(text, token_files(tmp_path), short, lambda done, total: None))


def test_token_files_that_changed_underneath_are_refused(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    KINDS["byte_level"]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, documents())
    build(tmp_path)
    index = QuotesIndex(tmp_path / "index", tokens=tmp_path, digest=DIGEST)
    text = TokenText(tmp_path, TokenBytes(tokenizer))
    for file, tokens in token_files(tmp_path).items():
        text.tokens(file)
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[: 2 * tokens // 2])
    quotes = planted(documents(), MATCH_BYTES, 20, seed=4)
    with pytest.raises(InputError, match="truncated since it was opened"):
        [found for quote in quotes for found in find(index, text, quote)]
