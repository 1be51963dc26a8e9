"""What files are that someone gives for token files: made by the libraries that write them."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.data.files import Files
from olmo_core.data.format import open_token_file
from olmo_core.errors import InputError
from tests.olmo_core.file_server import serving

TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n" * 3


def ids(dtype: str, count: int = 20_000, vocab_size: int = 50_000, pad: int = 3000) -> np.ndarray:
    """Ids as unevenly frequent as words, after a while of padding."""
    tokens = np.random.default_rng(0).zipf(1.3, count) % vocab_size
    tokens[:pad] = 1
    return tokens.astype(dtype)


def written(save: Callable[..., None]) -> bytes:
    content = io.BytesIO()
    save(content, ids("<u2"))
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", TEXT)
    return content.getvalue()


def parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"input_ids": [[1, 2, 3]]}), content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (written(np.save), r"a file of numpy\.save; .*array\.tofile"),
        (written(np.savez), r"a zip archive \(numpy\.savez"),
        (zipped(), "a zip archive"),
        (gzip.compress(ids("<u2").tobytes()), "compressed by gzip"),
        (pa.compress(ids("<u2").tobytes(), codec="zstd", asbytes=True), "compressed by zstd"),
        (parquet(), "a Parquet file"),
        (TEXT.encode(), r"text \('Zwölf Boxkämpfer jagen"),
        (b'{"id": "1", "text": "One more document, of one line."}\n' * 1000, r"text \('{\"id\": "),
    ],
    # Archives hold the time they were made at, which processes of one test run do not share.
    ids=["npy", "npz", "zip", "gzip", "zstd", "parquet", "prose", "jsonl"],
)
@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_what_is_no_token_file_is_named(
    content: bytes, message: str, dtype: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"tokens\.npy: .*{message}"):
        open_token_file(path, dtype=np.dtype(dtype), vocab_size=50_280)


@pytest.mark.parametrize("stored", ["<u2", "<u4", "<i4", "<u8", "<i8"])
@pytest.mark.parametrize("read", ["<u2", "<u4", "<u8"])
def test_the_width_of_ids_is_told_from_their_bytes(stored: str, read: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.npy"
    ids(stored).tofile(path)
    width, given = np.dtype(stored).itemsize, np.dtype(read)
    if width <= given.itemsize:  # narrower ids make numbers beyond any vocabulary
        assert open_token_file(path, dtype=given).dtype == given
        return
    with pytest.raises(InputError, match=rf"read as {given.name}: .*_dtype: uint{8 * width}$"):
        open_token_file(path, dtype=given)


def test_ids_of_a_large_vocabulary_have_high_halves(tmp_path: Path) -> None:
    ids("<u4", vocab_size=200_000).tofile(tmp_path / "a")
    with pytest.raises(InputError, match="ids of uint32 read as uint16"):
        open_token_file(tmp_path / "a", dtype=np.dtype("<u2"))


def test_bytes_are_their_own_ids_and_short_files_are_believed(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(TEXT)
    open_token_file(tmp_path / "text", dtype=np.dtype("u1"))
    (tmp_path / "short").write_bytes(b"by chance!")
    open_token_file(tmp_path / "short", dtype=np.dtype("<u2"))
    toy = np.zeros(4096, dtype="<u2")  # every second token 0, but few others between them
    toy[::2] = np.random.default_rng(0).integers(2, 40, 2048)
    toy.tofile(tmp_path / "toy")
    open_token_file(tmp_path / "toy", dtype=np.dtype("<u2"))


def test_a_remote_file_is_looked_at_without_fetching_a_block(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    ids("<i8", 1 << 18, pad=100).tofile(tmp_path / "served" / "tokens.npy")
    files = Files(tmp_path / "cache")
    with serving(tmp_path / "served") as server:
        path = f"{server.url}/tokens.npy"
        with pytest.raises(InputError, match=r"tokens\.npy: ids of int64 read as uint32"):
            open_token_file(path, files=files, dtype=np.dtype("<u4"))
        assert open_token_file(path, files=files, dtype=np.dtype("<u8")).tokens == 1 << 18
    asked = [given for file, given in server.requests if given and file.endswith(".npy")]
    assert asked.count(f"bytes=0-{(1 << 14) - 1}") == 1
    assert max(int(given.split("-")[1]) for given in asked) < 1 << 14
