import json
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.files import Files
from olmo_core.data.format import dtype_for, open_token_file, read_tokens
from olmo_core.errors import InputError


def test_dtype_is_the_smallest_that_holds_the_vocabulary() -> None:
    assert dtype_for(8192) == np.dtype("<u2")
    assert dtype_for(65536) == np.dtype("<u2")
    assert dtype_for(65537) == np.dtype("<u4")


def test_a_file_with_its_header(write_tokens) -> None:
    path = write_tokens("src/part-0-00000.npy", [[1, 2], [3]])
    file = open_token_file(path, vocab_size=1000)
    assert file.header is not None
    assert (file.tokens, file.dtype, file.header.documents) == (5, np.dtype("<u2"), 2)
    assert read_tokens(file, 1, 4).tolist() == [2, 0, 3]


def test_a_file_of_others_needs_a_dtype(tmp_path: Path) -> None:
    path = tmp_path / "part.npy"
    np.asarray([1, 70000], dtype="<u4").tofile(path)
    with pytest.raises(InputError, match="dtype must be given"):
        open_token_file(path)
    assert open_token_file(path, dtype=np.dtype("<u4")).tokens == 2
    with pytest.raises(InputError, match="no header"):
        open_token_file(path, dtype=np.dtype("<u4"), need_header=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "no multiple of 2"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "header says 5 tokens"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.with_suffix(".json").write_text("{"), "not valid JSON"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "expected an object with"),
        (lambda path: _change(path, dtype="float32"), "one of uint8"),
        (lambda path: _change(path, dtype="uint32"), "no multiple of 4"),
        (lambda path: _change(path, schema_version=9), "schema_version 9"),
        (lambda path: _change(path, vocab_size=2000), "vocabulary of 2000"),
    ],
)
def test_damage_is_named_with_its_file(write_tokens, damage, message: str) -> None:
    path = write_tokens("src/part-0-00000.npy", [[1, 2], [3]])
    damage(path)
    with pytest.raises(InputError, match=message) as error:
        open_token_file(path, vocab_size=1000)
    assert path.stem in str(error.value)


def test_another_dtype_than_the_reader_expects(write_tokens) -> None:
    path = write_tokens("src/part-0-00000.npy", [[1, 2], [3, 4]])
    with pytest.raises(InputError, match=r"header says uint16; data\.memmap_dtype, .*uint32"):
        open_token_file(path, dtype=np.dtype("<u4"))


def test_a_file_truncated_after_opening_is_an_error_not_a_crash(write_tokens) -> None:
    path = write_tokens("src/part-0-00000.npy", [list(range(1, 100))])
    reader, buffer = Files(), bytearray(200)
    reader.read_into(str(path), 0, memoryview(buffer))
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match="ends at byte 150, expected 200"):
        reader.read_into(str(path), 0, memoryview(buffer))


def test_more_files_than_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))
    reader = Files()  # keeps 16 open
    for number in range(300):
        (tmp_path / f"{number}.npy").write_bytes(number.to_bytes(2, "little"))
    for number in [*range(300), *range(0, 300, 7)]:
        buffer = bytearray(2)
        reader.read_into(str(tmp_path / f"{number}.npy"), 0, memoryview(buffer))
        assert int.from_bytes(buffer, "little") == number


def _change(path: Path, **changes: object) -> None:
    header = path.with_suffix(".json")
    header.write_text(json.dumps(json.loads(header.read_text()) | changes))
