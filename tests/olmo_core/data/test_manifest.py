import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from olmo_core.data.instances import Instances
from olmo_core.data.manifest import Manifest, Range, Stream
from olmo_core.errors import InputError


def mix(root: Path, streams: dict[str, list[tuple[str, int, int]]]) -> Manifest:
    return Manifest(
        dtype="uint16",
        vocab_size=1000,
        tokenizer_sha256="ab" * 32,
        eos_token_id=0,
        root=root,
        streams=tuple(
            Stream(name=name, ranges=tuple(Range(path=p, start=a, stop=b) for p, a, b in ranges))
            for name, ranges in streams.items()
        ),
    )


def all_windows(data: Instances) -> list[list[int]]:
    return data.read(np.arange(data.count)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_windows_of_joined_ranges(write_tokens, tmp_path: Path, seed: int) -> None:
    """Against Python lists, joined and cut; ranges of any size, repeated, many in a window."""
    rng = np.random.default_rng(seed)
    files = {}
    for number in range(4):
        path = write_tokens(f"s/part-0-{number:05d}.npy", [rng.integers(1, 999, 60).tolist()] * 3)
        files[path.relative_to(tmp_path).as_posix()] = np.fromfile(path, "<u2").tolist()
    for length in (1, 2, 7, 64):
        streams, expected = {}, []
        for stream in "abc":
            ranges = []
            for _ in range(int(rng.integers(1, 9))):
                start = int(rng.integers(0, 180))
                stop = start + int(rng.integers(1, min(183 - start, 40) + 1))
                ranges.append((rng.choice(sorted(files)), start, stop))
            streams[stream] = ranges
            join = [token for path, start, stop in ranges for token in files[path][start:stop]]
            expected += [
                join[place : place + length] for place in range(0, len(join) - length + 1, length)
            ]
        if not expected:
            continue
        data = Instances(mix(tmp_path, streams), sequence_length=length, vocab_size=1000)
        assert data.count == len(expected)
        assert all_windows(data) == expected
        for instance in range(data.count):
            pieces = [files[p.path][p.start : p.stop] for p in data.pieces(instance)]
            assert list(itertools.chain(*pieces)) == expected[instance]


def test_overlapping_is_the_inverse_of_pieces(write_tokens, tmp_path: Path) -> None:
    path = write_tokens("s/part-0-00000.npy", [[5] * 99])
    name = path.relative_to(tmp_path).as_posix()
    ranges = {"a": [(name, 10, 90), (name, 0, 33)], "b": [(name, 50, 100)]}
    data = Instances(mix(tmp_path, ranges), sequence_length=8)
    for start, stop in [(0, 1), (0, 100), (12, 13), (31, 52), (88, 100), (95, 100)]:
        expected = [
            instance
            for instance in range(data.count)
            if any(p.start < stop and start < p.stop for p in data.pieces(instance))
        ]
        assert data.overlapping(name, start, stop) == expected
    assert data.overlapping("another.npy", 0, 100) == []


def test_data_paths_are_one_stream_a_file(tmp_path: Path) -> None:
    for name, tokens in (("a", 10), ("b", 7)):
        np.arange(tokens, dtype="<u4").tofile(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("a", "b", "a")]
    manifest = Manifest.from_paths(paths, dtype="uint32")
    windows = all_windows(Instances(manifest, sequence_length=4))
    assert windows == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]


def test_label_masks_follow_the_tokens(tmp_path: Path) -> None:
    np.arange(10, dtype="<u2").tofile(tmp_path / "a")
    (np.arange(10) % 3 == 0).tofile(tmp_path / "mask")
    manifest = Manifest.from_paths(
        [str(tmp_path / "a")], dtype="uint16", label_mask_paths=[str(tmp_path / "mask")]
    )
    data = Instances(manifest, sequence_length=4)
    assert data.read_label_masks(np.asarray([1, 0])).tolist() == [
        [False, False, True, False],
        [True, False, False, True],
    ]
    (tmp_path / "mask").write_bytes(b"\1" * 7 + b"\2" * 3)
    with pytest.raises(InputError, match=r"mask: byte 2 at position 7;"):
        data.read_label_masks(np.asarray([1]))
    (tmp_path / "mask").write_bytes(b"\1" * 9)
    with pytest.raises(InputError, match=r"mask: 9 bytes for the 10 tokens of .*a;"):
        Instances(manifest, sequence_length=4)
    with pytest.raises(InputError, match="label_mask_paths: 1 files for the 2"):
        Manifest.from_paths(["a", "b"], dtype="uint16", label_mask_paths=["mask"])


def test_written_and_read_again(write_tokens, tmp_path: Path) -> None:
    path = write_tokens("s/part-0-00000.npy", [[1, 2, 3]])
    manifest = mix(tmp_path, {"s": [(path.relative_to(tmp_path).as_posix(), 0, 4)]})
    manifest.write(tmp_path / "manifest.json")
    assert str(tmp_path) not in (tmp_path / "manifest.json").read_text()
    again = Manifest.read(tmp_path / "manifest.json", root=tmp_path)
    assert again == manifest
    assert again.sha256 == manifest.sha256
    assert Manifest.read(tmp_path / "manifest.json", root=Path("/elsewhere")).sha256 == again.sha256


def test_label_masks_of_a_written_manifest(write_tokens, tmp_path: Path) -> None:
    """Both are named relative to the root, and one may stand in many ranges."""
    path = write_tokens("s/part-0-00000.npy", [[1, 2, 3], [4, 5, 6]]).relative_to(tmp_path)
    (tmp_path / "tokens" / "s" / "mask.npy").write_bytes(bytes([0, 1, 0, 1, 1, 0, 0, 1]))
    ranges = (
        Range(path=str(path), start=0, stop=3, label_mask="tokens/s/mask.npy"),
        Range(path=str(path), start=2, stop=3),
        Range(path=str(path), start=4, stop=8, label_mask="tokens/s/mask.npy"),
    )
    manifest = dataclasses.replace(mix(tmp_path, {}), streams=(Stream(name="s", ranges=ranges),))
    manifest.write(tmp_path / "manifest.json")
    again = Manifest.read(tmp_path / "manifest.json", root=tmp_path)
    assert again == manifest
    data = Instances(again, sequence_length=4)
    assert all_windows(data) == [[1, 2, 3, 3], [4, 5, 6, 0]]
    assert data.read_label_masks(np.arange(2)).tolist() == [
        [False, True, False, True],
        [True, False, False, True],
    ]


def test_a_corpus_that_moved_has_the_same_digest(tmp_path: Path) -> None:
    digests = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.arange(10, dtype="<u2").tofile(tmp_path / folder / "a")
        digests.add(Manifest.from_paths([str(tmp_path / folder / "a")], dtype="uint16").sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 1"),
        ({"streams": [{"name": "s"}]}, "malformed"),
        ({"dtype": "int7"}, "int7"),
        ({"streams": [{"name": "s", "ranges": [{"path": {"asset": "x", "path": "p"}}]}]}, "asset"),
    ],
)
def test_malformed_manifests(tmp_path: Path, change, message: str) -> None:
    mix(tmp_path, {"s": [("p", 0, 4)]}).write(tmp_path / "manifest.json")
    content = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=message):
        Manifest.read(tmp_path / "manifest.json", root=tmp_path)


def test_what_does_not_fit_is_refused_at_opening(write_tokens, tmp_path: Path) -> None:
    path = write_tokens("s/part-0-00000.npy", [[1, 2, 3]])
    name = path.relative_to(tmp_path).as_posix()
    with pytest.raises(InputError, match=r"range \[0, 5\).*holds 4 tokens"):
        Instances(mix(tmp_path, {"s": [(name, 0, 5)]}), sequence_length=2)
    with pytest.raises(InputError, match="and no file or stream has the 8 of one window"):
        Instances(mix(tmp_path, {"s": [(name, 0, 4)]}), sequence_length=8)
    with pytest.raises(InputError, match="vocabulary of 1000, but the model has 500"):
        Instances(mix(tmp_path, {"s": [(name, 0, 4)]}), sequence_length=2, vocab_size=500)
    write_tokens("s/part-0-00000.npy", [[1, 2, 3]], tokenizer_sha256="cd" * 32)
    with pytest.raises(InputError, match="written by tokenizer cdcd"):
        Instances(mix(tmp_path, {"s": [(name, 0, 4)]}), sequence_length=2)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="has no header"):
        Instances(mix(tmp_path, {"s": [(name, 0, 4)]}), sequence_length=2)


def test_an_id_beyond_the_vocabulary_is_named_with_its_place(tmp_path: Path) -> None:
    tokens = np.arange(100, dtype="<u2")
    tokens[37] = 5000
    tokens.tofile(tmp_path / "a")
    manifest = Manifest.from_paths([str(tmp_path / "a")], dtype="uint16")
    data = Instances(manifest, sequence_length=10, vocab_size=100)
    assert data.read(np.asarray([0, 1, 2])).shape == (3, 10)
    with pytest.raises(InputError, match="a: token id 5000 at position 37"):
        data.read(np.asarray([0, 3]))
