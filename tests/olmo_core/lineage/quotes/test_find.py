"""Quotes in token files: an index and a scan against a search of the documents themselves."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.errors import InputError
from olmo_core.lineage.quotes.build import build_shard, token_files
from olmo_core.lineage.quotes.find import Found, QuotePlaces, TooShort, scan
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from tests.olmo_core.lineage.quotes.corpora import KINDS, documents, planted, write_tokens
from tests.olmo_core.lineage.quotes.indexes import DIGEST, build


@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_quote_is_found_wherever_it_stands(kind: str, tmp_path: Path) -> None:
    """Of starts, middles and ends, over the borders of shards and of what is decoded at once."""
    texts = documents(kind)
    index, text = indexed(tmp_path, texts, kind=kind, shard_tokens=40_000)
    assert len(index.shards) > 3
    files = token_files(tmp_path)
    whole = {file: text.read(file, 0, tokens) for file, tokens in files.items()}
    for number, quote in enumerate(planted(texts, MATCH_BYTES, 250, seed=11)):
        expected = searched(whole, quote)
        found = each_of(Found(index, text, quote))
        assert found == expected
        # An oracle that knows of no tokens: a document holds it.
        assert len(found) >= sum(quote.decode() in each for each in texts) >= 1
        for place in found:
            content, _ = text.read(*place)
            assert quote in content.tobytes()
        if number % 50 == 0:
            assert each_of(scan(text, files, quote, lambda done, total: None)) == found


def indexed(
    folder: Path, texts: Sequence[str], *, kind: str = "byte_level", **how: Any
) -> tuple[QuotesIndex, TokenText]:
    """Write texts as token files with their index; return it, and their text."""
    tokenizer = folder / "tokenizer.json"
    KINDS[kind]().save(str(tokenizer))
    write_tokens(folder, tokenizer, texts)
    build(folder, **how)
    index = QuotesIndex(folder / "index", tokens=folder, digest=DIGEST)
    return index, TokenText(folder, TokenBytes(tokenizer))


def each_of(places: Iterable[QuotePlaces]) -> list[tuple[str, int, int]]:
    """Return each place: its file and tokens."""
    return [
        (some.file, start, stop)
        for some in places
        for start, stop in zip(some.starts.tolist(), some.stops.tolist(), strict=True)
    ]


def searched(
    whole: Mapping[str, tuple[np.ndarray, np.ndarray]], quote: bytes
) -> list[tuple[str, int, int]]:
    """Return each place of a quote by a search of the bytes of all files, from every byte on."""
    return sorted(
        {
            (
                file,
                int(np.searchsorted(edges, at, "right")) - 1,
                int(np.searchsorted(edges, at + len(quote), "left")),
            )
            for file, (content, edges) in whole.items()
            for at in places(content.tobytes(), quote)
        }
    )


def places(content: bytes, quote: bytes) -> list[int]:
    found, at = list[int](), -1
    while (at := content.find(quote, at + 1)) >= 0:
        found.append(at)
    return found


LINE = "This line stands in nearly every file that there is, whatever it holds besides it. "
PERIODS = ("a", " ", "-=", "abc", "\n\t", "é", "0123456789" * 2 + "x")


def common() -> list[str]:
    """Return documents that hold a line, and others that repeat themselves."""
    lines = [f"{number} {LINE}{'and more. ' * (number % 5)}" for number in range(300)]
    repeated = [period * 40 * (times + 1) for times in range(8) for period in PERIODS]
    between = [text for pair in zip(lines, repeated, strict=False) for text in pair]
    return between + lines[len(repeated) :]


@pytest.mark.parametrize("at_once", [1 << 18, 97])
@pytest.mark.parametrize("kind", ["byte_level", "whole_words"])
def test_quotes_that_overlap_themselves_or_stand_everywhere(
    kind: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one repeated character, of a period, of a line of every file: over borders of any kind."""
    monkeypatch.setattr("olmo_core.lineage.quotes.find._AT_ONCE", at_once)
    tokenizer = tmp_path / "tokenizer.json"
    KINDS[kind]().save(str(tokenizer))
    write_tokens(tmp_path, tokenizer, common())
    build(tmp_path, shard_tokens=1_100)
    index = QuotesIndex(tmp_path / "index", tokens=tmp_path, digest=DIGEST)
    assert len(index.shards) > 6
    text, files = TokenText(tmp_path, TokenBytes(tokenizer)), token_files(tmp_path)
    whole = {file: text.read(file, 0, tokens) for file, tokens in files.items()}
    quotes = [LINE.strip(), LINE[-40:] + "and more. " * 4, LINE + "and more. " + "and more. "]
    quotes += [(period * 300)[:length] for period in PERIODS for length in (64, 65, 100, 250)]
    several = 0
    for quote in quotes:
        wanted = quote.encode()
        expected = searched(whole, wanted)
        assert expected, quote
        several += len(expected) > 20
        assert each_of(Found(index, text, wanted)) == expected, quote
        scanned = scan(text, files, wanted, lambda done, total: None)
        assert each_of(scanned) == expected, quote
    assert several > 20


@pytest.mark.parametrize("postings", [1 << 16, 7])
def test_of_a_common_quote_the_first_places_come_and_the_rest_is_counted(
    postings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmo_core.lineage.quotes.find._POSTINGS", postings)
    monkeypatch.setattr("olmo_core.lineage.quotes.find._AT_ONCE", 97)
    index, text = indexed(tmp_path, common(), shard_tokens=3_000)
    files = token_files(tmp_path)
    whole = {file: text.read(file, 0, tokens) for file, tokens in files.items()}
    for quote in (LINE.strip(), "a" * 64, "-=" * 50, " " * 70):
        found, places, unread = Found(index, text, quote.encode()), [], []
        unread.append(found.unread)
        for some in found:
            places += each_of([some])
            unread.append(found.unread)
            # Each place that is not there yet is counted, unless the quote overlaps itself.
            if quote == LINE.strip():
                assert len(places) + found.unread >= 300
        assert places == searched(whole, quote.encode())
        assert unread == sorted(unread, reverse=True)
        assert len({*unread}) > 5
        assert unread[-1] == 0


def test_what_is_rare_is_found_whatever_is_common_in_it(tmp_path: Path) -> None:
    """All of its fingerprints stand in each of the other documents too."""
    index, text = indexed(tmp_path, common())
    found = Found(index, text, f"250 {LINE}".encode())
    assert found.indexed == found.unread > 290
    assert len(each_of(found)) == 1
    assert (found.unread, found.read) == (0, found.indexed)


def test_a_scan_finds_what_lies_over_the_border_of_two_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmo_core.lineage.quotes.find._AT_ONCE", 50)
    texts = documents()[-10:]
    index, text = indexed(tmp_path, texts)
    files = token_files(tmp_path)
    said: list[tuple[int, int]] = []
    for quote in planted(texts, MATCH_BYTES, 30, seed=2):
        scanned = scan(text, files, quote, lambda done, total: said.append((done, total)))
        assert each_of(scanned) == each_of(Found(index, text, quote))
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
    index, text = indexed(tmp_path, documents())
    quote = documents()[3][:200]
    assert each_of(Found(index, text, quote.encode()))
    assert not each_of(Found(index, text, quote[:-1].encode() + b"\xff"))
    short = quote[: MATCH_BYTES - 1].encode()
    with pytest.raises(TooShort, match=rf"{MATCH_BYTES} bytes.*has {len(short)}"):
        Found(index, text, short)
    with pytest.raises(TooShort):
        next(scan(text, token_files(tmp_path), short, lambda done, total: None))


def test_token_files_that_changed_underneath_are_refused(tmp_path: Path) -> None:
    index, text = indexed(tmp_path, documents())
    for file, tokens in token_files(tmp_path).items():
        text.tokens(file)
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[: 2 * tokens // 2])
    quotes = planted(documents(), MATCH_BYTES, 20, seed=4)
    with pytest.raises(InputError, match="truncated since it was opened"):
        [found for quote in quotes for found in Found(index, text, quote)]
