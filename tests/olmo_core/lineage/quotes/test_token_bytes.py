"""Bytes of tokens against what the tokenizers library decodes."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from tests.olmo_core.lineage.quotes.corpora import EOS, KINDS, documents


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_decoded_text(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    KINDS[kind]().save(str(path))
    table, tokenizer = TokenBytes(path), read_tokenizer(path)
    for text in documents(kind):
        ids = np.array(tokenizer.encode(text).ids, dtype=np.uint32)
        content, edges = table.decode(ids)
        decoded = tokenizer.decode(ids.tolist(), skip_special_tokens=False)
        found = content.tobytes()
        # The blank that stands for the start of a document, the library strips.
        assert found in (decoded.encode(), b" " + decoded.encode())
        assert table.of_text(text) in found
        assert len(edges) == len(ids) + 1
        for at in np.linspace(0, len(ids) - 1, 20).astype(int):
            part, _ = table.decode(ids[at : at + 1])
            assert part.tobytes() == found[edges[at] : edges[at + 1]]


def test_what_composes_is_looked_for_composed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    KINDS["nfc"]().save(str(path))
    assert TokenBytes(path).of_text("cafe\u0301") == "café".encode()


def test_special_tokens_stand_for_their_names(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    KINDS["byte_level"]().save(str(path))
    eos = read_tokenizer(path).token_to_id(EOS)
    content, edges = TokenBytes(path).decode(np.array([eos, eos], dtype=np.uint16))
    assert content.tobytes() == 2 * EOS.encode()
    assert edges.tolist() == [0, len(EOS), 2 * len(EOS)]


def test_an_id_that_no_token_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    KINDS["byte_level"]().save(str(path))
    with pytest.raises(InputError, match=r"no token of an id found \(up to 60000\)"):
        TokenBytes(path).decode(np.array([5, 60000], dtype=np.uint16))


def test_tokens_that_are_no_bytes_are_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(InputError, match="decoder null: expected one whose tokens are bytes"):
        TokenBytes(path)
