"""A build that is killed, resumed or doubled; an index that is damaged or of other tokens."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from olmo_core.errors import ConfigError, InputError
from olmo_core.files import PARTIAL
from olmo_core.lineage.quotes.build import INDEX, LOCK
from olmo_core.lineage.quotes.find import Found
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.lineage.quotes.winnowing import MATCH_BYTES
from tests.olmo_core.lineage.quotes.corpora import KINDS, documents, planted, write_tokens
from tests.olmo_core.lineage.quotes.indexes import DIGEST, build

SHARD = 40_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    KINDS["byte_level"]().save(str(tmp_path / "tokenizer.json"))
    write_tokens(tmp_path, tmp_path / "tokenizer.json", documents())
    return tmp_path


def opened(folder: Path) -> QuotesIndex:
    return QuotesIndex(folder / "index", tokens=folder, digest=DIGEST)


def require_found(folder: Path, quotes: int = 40) -> None:
    index, text = opened(folder), TokenText(folder, TokenBytes(folder / "tokenizer.json"))
    for quote in planted(documents(), MATCH_BYTES, quotes, seed=9):
        assert any(len(some.starts) for some in Found(index, text, quote))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.olmo_core.lineage.quotes.indexes import build

def progress(done, total):
    if done > 0:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    build(Path(sys.argv[1]), shard_tokens=40_000, progress=progress)
"""


def test_a_build_that_was_killed_goes_on(corpus: Path) -> None:
    script = corpus / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(script), str(corpus)],
        cwd=Path(__file__).parents[4],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = corpus / "index"
    left = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    assert left
    assert INDEX not in left
    with pytest.raises(InputError, match=f"not a finished quotes index: no {INDEX}"):
        opened(corpus)
    (folder / f"000099.postings.1{PARTIAL}").write_bytes(b"of the build before")
    built = build(corpus, shard_tokens=SHARD)
    assert len(left) <= built.reused < built.shards
    assert not [*folder.glob(f"*{PARTIAL}")]
    require_found(corpus)
    again = build(corpus, shard_tokens=SHARD)
    assert (again.reused, again.postings) == (built.shards, built.postings)


def test_two_builds_of_one_index(corpus: Path) -> None:
    (corpus / "index").mkdir()
    with (corpus / "index" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process builds this index"):
            build(corpus)
    build(corpus)


def test_progress_adds_up(corpus: Path) -> None:
    said: list[tuple[int, int]] = []
    built = build(corpus, shard_tokens=SHARD, progress=lambda *each: said.append(each))
    assert said[0] == (0, built.tokens)
    assert said[-1] == (built.tokens, built.tokens)
    assert len(said) == built.shards + 1
    on_disk = sum(path.stat().st_size for path in (corpus / "index").iterdir())
    assert built.size_bytes == on_disk


@pytest.mark.parametrize("at", [5, -5, -3000])
def test_a_flipped_bit_is_never_taken_for_text_that_is_not_there(corpus: Path, at: int) -> None:
    build(corpus)
    for path in sorted((corpus / "index").glob("*.postings")):
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"\.postings: .*damaged.*build it anew"):
        require_found(corpus, 400)


def test_a_shard_that_is_cut_or_gone_is_refused(corpus: Path) -> None:
    build(corpus)
    path = corpus / "index" / "000001.postings"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"000001\.postings: \d+ bytes, expected \d+: truncated"):
        opened(corpus)
    path.unlink()
    with pytest.raises(InputError, match=r"000001\.postings: no such file"):
        opened(corpus)
    assert build(corpus).reused == 1  # the other one
    require_found(corpus)


def test_the_index_of_other_tokens_is_refused(corpus: Path) -> None:
    build(corpus)
    with pytest.raises(InputError, match="the index of other tokens than"):
        QuotesIndex(corpus / "index", tokens=corpus, digest="cd" * 32)
    write_tokens(corpus, corpus / "tokenizer.json", documents()[:-1])
    with pytest.raises(InputError, match="the index of other tokens than"):
        opened(corpus)


def test_an_index_of_another_make_is_refused(corpus: Path) -> None:
    build(corpus)
    path = corpus / "index" / INDEX
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "window": 7}))
    with pytest.raises(InputError, match=r"index\.json: expected an index of .*'window': 41"):
        opened(corpus)


def test_a_token_file_that_is_cut_is_refused(corpus: Path) -> None:
    path = next((corpus / "tokens").rglob("*.npy"))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="truncated or replaced"):
        build(corpus)


def test_a_file_of_fewer_bytes_than_a_quote_has_no_places(tmp_path: Path) -> None:
    KINDS["byte_level"]().save(str(tmp_path / "tokenizer.json"))
    write_tokens(tmp_path, tmp_path / "tokenizer.json", ["a few words", "and more"])
    assert build(tmp_path).postings == 0
    text = TokenText(tmp_path, TokenBytes(tmp_path / "tokenizer.json"))
    assert not [*Found(opened(tmp_path), text, b"x" * MATCH_BYTES)]


def test_ids_of_another_tokenizer_are_refused(corpus: Path) -> None:
    path = next((corpus / "tokens").rglob("*.npy"))
    ids = np.fromfile(path, dtype="<u2")
    ids[700] = 60_000
    ids.tofile(path)
    with pytest.raises(InputError, match=rf"{path.name}: tokens 0 to \d+: .*no token of an id"):
        build(corpus)
