import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.config.train import InstanceFilterConfig
from olmo_core.data import check
from olmo_core.data.check import check_tokens
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError

VOCAB_SIZE = 100_352  # needs uint32, as OLMo 2's


def opened(*paths: Path, dtype: str = "uint16", vocab_size: int = 1000, **changes: Any) -> Loader:
    masks = changes.pop("label_mask_paths", None)
    return Loader(
        manifest=Manifest.from_paths(list(map(str, paths)), dtype=dtype, label_mask_paths=masks),
        sequence_length=512,
        global_batch_size=1,
        seed=0,
        vocab_size=vocab_size,
        **changes,
    )


def text(tokens: int, dtype: str, vocab_size: int) -> np.ndarray:
    """Ids that are as unevenly frequent as words, some windows of padding among them."""
    ids = (np.random.default_rng(0).zipf(1.3, tokens) % vocab_size).astype(dtype)
    ids[512 * 3 : 512 * 5] = 1
    return ids


def test_small_data_is_read_whole(tmp_path: Path) -> None:
    tokens = text(512 * 2000, "<u2", 1000)
    tokens.tofile(tmp_path / "good")
    check_tokens(opened(tmp_path / "good"))
    tokens[512 * 1037 + 5] = 1000
    tokens.tofile(tmp_path / "bad")
    with pytest.raises(InputError, match=rf"bad: token id 1000 at position {512 * 1037 + 5},"):
        check_tokens(opened(tmp_path / "good", tmp_path / "bad"))


def test_of_large_data_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another tokenizer is found wherever it stands, however short it is."""
    monkeypatch.setattr(check, "SCANNED_BYTES", 0)
    paths = []
    for number in range(30):
        paths.append(tmp_path / str(number))
        text(512 * (1 if number % 7 else 300), "<u2", 1000).tofile(paths[-1])
    text(100, "<u2", 1000).tofile(tmp_path / "no window")
    paths.insert(3, tmp_path / "no window")
    check_tokens(opened(*paths))
    for number in (0, 1, 15, 29):
        tokens = np.fromfile(tmp_path / str(number), "<u2")
        (tokens + np.uint16(1000)).tofile(tmp_path / str(number))
        with pytest.raises(InputError, match=f"{tmp_path}/{number}: token id"):
            check_tokens(opened(*paths))
        tokens.tofile(tmp_path / str(number))


@pytest.mark.parametrize("vocab_size", [VOCAB_SIZE, 50_304])
def test_another_width_than_the_files(tmp_path: Path, vocab_size: int) -> None:
    text(512 * 8, "<u4", vocab_size).tofile(tmp_path / "wide")
    text(512 * 8, "<u2", min(vocab_size, 1 << 16)).tofile(tmp_path / "narrow")
    check_tokens(opened(tmp_path / "wide", dtype="uint32", vocab_size=vocab_size))
    check_tokens(opened(tmp_path / "narrow", vocab_size=vocab_size))
    with pytest.raises(InputError, match=r"narrow: token id .* another dtype than uint32"):
        check_tokens(opened(tmp_path / "narrow", dtype="uint32", vocab_size=vocab_size))


@pytest.mark.parametrize(
    ("dtype", "vocab_size", "warned"),
    [("uint8", 256, False), ("uint8", 257, True), ("uint16", VOCAB_SIZE, True)],
)
def test_a_dtype_too_small_for_the_vocabulary(
    dtype: str, vocab_size: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.random.default_rng(0).integers(2, 256, 512 * 4).astype(dtype).tofile(tmp_path / "a")
    check_tokens(opened(tmp_path / "a", dtype=dtype, vocab_size=vocab_size))
    assert (f"read as {dtype}" in caplog.text) == warned


def test_what_only_looks_alike_is_accepted(tmp_path: Path) -> None:
    """Every second token 0, but few others between them; padding."""
    rng = np.random.default_rng(0)
    toy = np.zeros(512 * 8, dtype="<u2")
    toy[::2] = rng.integers(2, 40, 512 * 4)
    toy.tofile(tmp_path / "toy")
    np.ones(512 * 8, dtype="<u2").tofile(tmp_path / "padding")
    check_tokens(opened(tmp_path / "toy", tmp_path / "padding"))


def test_a_header_is_believed(write_tokens) -> None:
    path = write_tokens("s/part-0-00000.npy", [[number] for number in range(1, 999)])
    check_tokens(opened(path))
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="ids of uint32 read as uint16"):
        opened(path)


def test_masks_are_looked_at_too(tmp_path: Path) -> None:
    tokens, mask = text(512 * 4, "<u2", 1000), np.zeros(512 * 4, dtype=np.uint8)
    tokens.tofile(tmp_path / "a")
    for place, value, message in (
        (512, 1, "no label to learn in 4 of 4 windows"),  # an instance's first token is none
        (513, 1, None),
        (700, 3, "mask: byte 3 at position 700"),
    ):
        mask[place] = value
        mask.tofile(tmp_path / "mask")
        data = opened(tmp_path / "a", label_mask_paths=[str(tmp_path / "mask")])
        with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
            check_tokens(data)


def test_padded_rows_that_the_filter_masks(tmp_path: Path) -> None:
    """An official configuration has the filter; nothing would be learned of chats."""
    tokens = np.tile(np.arange(512, dtype="<u2"), 4)
    tokens.reshape(4, 512)[:, 400:] = 1
    tokens.tofile(tmp_path / "chat")
    with pytest.raises(InputError, match=r"masks 4 of them.*need data\.instance_filter: null"):
        check_tokens(opened(tmp_path / "chat", instance_filter=InstanceFilterConfig()))
    check_tokens(opened(tmp_path / "chat"))


def test_documents_that_end_in_another_token(
    write_tokens, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tokens("s/part-0-00000.npy", [[5] * 700] * 3)
    with pytest.raises(InputError, match=r"its documents end in token 0, but .* by 7 "):
        opened(path, document_eos=7)
    check_tokens(opened(path, document_eos=0))
    path.with_suffix(".json").unlink()
    check_tokens(opened(path, document_eos=0))
    assert "generate_doc_lengths" not in caplog.text
    message = (
        r"no document ends in token 7 \(model\.eos_token_id\): "
        r"it does not occur in 4 of 4 windows; "
        r"1 of 1 files end in token 0: is that it\?"
    )
    with pytest.raises(InputError, match=message):
        check_tokens(opened(path, document_eos=7))
    # an ordinary token: the files' ends tell
    check_tokens(opened(path, document_eos=5))
    said = f"model.eos_token_id is 5, but 1 of 1 files end in token 0 ({path})"
    assert said in caplog.text
