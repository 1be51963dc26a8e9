"""Document files: whole or refused with the place, and the same bytes for the same documents."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core.corpus.document import (
    Document,
    numbered,
    read_attributes,
    read_documents,
    shards,
    write_documents,
    write_shards,
)
from olmo_core.errors import InputError

GOOD = {"id": "s/1", "text": "Some text.", "source": "s"}
DOCUMENTS = [Document(id=f"s/{n}", text=f"text {n} — naïve", source="s") for n in range(50)]


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    return path


def good() -> bytes:
    return json.dumps(GOOD).encode()


def test_documents_return_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl.gz"
    write_documents(path, DOCUMENTS)
    assert list(read_documents(path)) == DOCUMENTS


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    write_documents(tmp_path / "one.jsonl.gz", DOCUMENTS)
    write_documents(tmp_path / "folder" / "other.jsonl.gz", DOCUMENTS)
    one = (tmp_path / "one.jsonl.gz").read_bytes()
    assert one == (tmp_path / "folder" / "other.jsonl.gz").read_bytes()


def test_shards_are_cut_after_the_bound_and_keep_the_order(tmp_path: Path) -> None:
    size = DOCUMENTS[0].text_bytes
    assert write_shards(tmp_path, DOCUMENTS[:10], shard_bytes=4 * size) == 3
    found = [[d.id for d in read_documents(path)] for path in shards(tmp_path)]
    assert found == [[f"s/{n}" for n in part] for part in (range(4), range(4, 8), (8, 9))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "s/2", "text": "Some', r"part\.jsonl\.gz:2: not valid JSON"),
        (b'["s/2", "text"]', r":2: found list; expected one JSON object per line"),
        (b'{"id": "s/2", "text": "na\xefve", "source": "s"}', r":2: byte 0xef at column 26 is not"),
        (b'{"id": "s/2", "source": "s"}', r":2: key 'text' is missing; found \['id', 'source'\]"),
        (b'{"id": 2, "text": "x", "source": "s"}', r":2: key 'id' is a int; expected a string"),
        (b'{"id": "s/2", "text": " \\n", "source": "s"}', r":2: empty document .*id 's/2'"),
        (b'{"id": "s/2", "text": "\\ud800", "source": "s"}', r":2: key 'text' holds a lone surrog"),
    ],
)
def test_a_bad_line_is_refused_with_its_place(tmp_path: Path, line: bytes, message: str) -> None:
    path = write(tmp_path / "part.jsonl.gz", good(), line)
    with pytest.raises(InputError, match=message):
        list(read_documents(path))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_gzip_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "part.jsonl.gz"
    write_documents(path, DOCUMENTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"part\.jsonl\.gz: the gzip stream is truncated"):
        list(read_documents(path))


def test_what_is_no_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl.gz"
    path.write_bytes(good())
    with pytest.raises(InputError, match="truncated or damaged after line 0"):
        list(read_documents(path))


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*\.jsonl\.gz file"):
        shards(tmp_path)


def test_attributes_need_an_id_and_a_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "part.jsonl.gz", b'{"id": "s/1", "attributes": []}')
    with pytest.raises(InputError, match=r":1: found keys .*expected a string 'id' and a mapping"):
        list(read_attributes(path))


DISK_FULL = """
import random, resource, sys
from pathlib import Path
from olmo_core.corpus.document import Document, write_documents
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = random.Random(0)
text = "".join(chr(noise.randrange(33, 127)) for _ in range(200_000))
write_documents(Path(sys.argv[1]), [Document(id="s/1", text=text, source="s")])
"""


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "part.jsonl.gz"
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"File too large: '{path}'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_files_sort_however_many_there_are() -> None:
    assert list(numbered(3)) == ["00000", "00001", "00002"]
    assert list(numbered(0)) == []
    for count in (99_999, 100_000, 100_001, 1_000_001):
        names = list(numbered(count))
        assert sorted(names) == names
        assert int(names[-1]) == count - 1
    assert list(numbered(100_000))[-1] == "99999"  # as before
