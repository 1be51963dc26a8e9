"""Where training's tokens may come from: a mix made by hand, a path listed twice, a server."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from olmo_core.corpus.tokens import mix
from olmo_core.corpus.tokens.mix import MixConfig, SourceShare
from olmo_core.data.format import Header, header_path
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job
from tests.olmo_core.file_server import serving


@pytest.fixture
def tokens_run(token_files: list[str], tmp_path: Path) -> Path:
    """The two files as sources of a tokens run folder, with headers."""
    for source, path in zip("ab", token_files, strict=True):
        tokens = np.fromfile(path, "<u2")
        tokens[40::41] = 0
        place = tmp_path / "run" / "tokens" / source / "part-0-00000.npy"
        place.parent.mkdir(parents=True)
        tokens.tofile(place)
        header = Header(
            dtype="uint16",
            tokens=len(tokens),
            documents=len(tokens) // 41,
            vocab_size=100,
            tokenizer_sha256="0" * 64,
            eos_token_id=0,
        )
        write_json(header_path(place), header.to_dict())
    return tmp_path / "run"


def test_training_on_a_mix_by_weight(
    tokens_run: Path, train: Callable[..., int], tmp_path: Path
) -> None:
    shares = {"a": SourceShare(weight=1), "b": SourceShare(weight=3)}
    with Job.open(tmp_path / "mix") as job:
        mix.make(MixConfig(sources=shares, max_tokens=4000), {"tokens": tokens_run}, job)
    file = tmp_path / "mix" / "manifest.json"
    given = (f"core.manifest={file}", f"core.roots={{tokens: {tokens_run}}}", "data.paths=null")
    assert train("run", *given, "max_duration=4", "stop_at=4") == 0
    manifest = Manifest.read(file, root=tokens_run)
    order = RunFolder(tmp_path / "run").read_result()["report"]["data"]["order"]
    assert order["manifest_sha256"] == manifest.sha256
    a, b = (stream.tokens for stream in manifest.streams)
    assert b / a == pytest.approx(3, rel=0.05)


def test_a_path_listed_twice_is_seen_twice_an_epoch(token_files: list[str]) -> None:
    a, b = token_files
    manifest = Manifest.from_paths([a, b, a], dtype="uint16")
    data = Loader(manifest=manifest, sequence_length=32, global_batch_size=1, seed=1)
    seen = [data.batch(step).input_ids.tobytes() for step in range(data.batching.per_epoch)]
    for path, times in ((a, 2), (b, 1)):
        ids = np.fromfile(path, "<u2").astype(np.int64)
        for start in range(0, len(ids) - 31, 32):
            assert seen.count(ids[start : start + 32].tobytes()) == times


def test_training_on_files_of_a_server(
    token_files: list[str], undisturbed: Path, train: Callable[..., int], tmp_path: Path
) -> None:
    """Resumed with the data elsewhere: to the last bit what was learned from the disk alone."""
    assert train("run", "stop_after=5") == 4
    with serving(Path(token_files[0]).parent) as server:
        urls = [f"{server.url}/{Path(path).name}" for path in token_files]
        assert train("run", f"data.paths=[{', '.join(urls)}]", f"core.cache={tmp_path}") == 0
    ours, theirs = (load_file(run / "model" / "model.safetensors")
                    for run in (undisturbed, tmp_path / "run"))  # fmt: skip
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda ids: np.append(ids, [100] * 32), "token id 100 at position 4001, .* 100 entries"),
        (lambda ids: ids[:0], "empty; a token file holds at least one token"),
        (lambda ids: ids.astype("<u4").view("u1")[:-2], "token id|every second number"),
        (lambda ids: ids.view("u1")[:-1], "8001 bytes is no multiple of 2"),
    ],
)
def test_what_is_wrong_with_the_data_is_said_before_step_1(
    token_files: list[str],
    train: Callable[..., int],
    tmp_path: Path,
    damage: Callable[[np.ndarray], np.ndarray],
    message: str,
) -> None:
    ids = np.fromfile(token_files[0], "<u2")
    damaged = damage(ids)
    damaged.astype(damaged.dtype if damaged.dtype == "u1" else "<u2").tofile(tmp_path / "bad.npy")
    assert train("run", f"data.paths=[{token_files[1]}, {tmp_path / 'bad.npy'}]") == 3
    assert re.search(rf"bad\.npy: .*({message})", (tmp_path / "said.txt").read_text())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
