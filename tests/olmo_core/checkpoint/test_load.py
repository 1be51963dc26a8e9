"""What `load_path` may name, here and elsewhere, and what it may not."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.state import state_of
from olmo_core.checkpoint.weights import save_model
from olmo_core.config.load import to_dict
from olmo_core.errors import InputError
from olmo_core.model.transformer import Transformer
from olmo_core.remote import storage
from tests.olmo_core.checkpoint.models import (
    OLMO2_GROUPED,
    fresh,
    opened,
    position,
    same_logits,
    theirs,
    write_olmo,
)
from tests.olmo_core.checkpoint.ranks import ALONE
from tests.olmo_core.file_server import FileServer, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(storage, "PAUSES_SECONDS", (0.0, 0.0))
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as state:
        yield state


def write_own(run: Path, *steps: int) -> Transformer:
    model, optimizer = fresh(OLMO2_GROUPED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    saver = Saver(run, ALONE, asynchronous=False)
    for step in steps:
        model_section = to_dict(OLMO2_GROUPED)
        train = {"step": step, "tokens": step, "order": {"seed": 1}, "model": model_section}
        saver.save(model, optimizer, train, kind="sharded")
    return model


def test_where_nothing_lies_the_error_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json.*config\.json.*model\.pt.*checkpoints/"):
        opened(tmp_path, OLMO2_GROUPED)


def test_one_of_ours_over_http_is_fetched_by_its_manifest(
    server: FileServer, tmp_path: Path
) -> None:
    original = write_own(server.folder / "run", 4)
    url, cache = f"{server.url}/run/checkpoints/step4", tmp_path / "cache"
    server.faults = ["", "500", "short"]
    source = opened(url, OLMO2_GROUPED, cache)
    assert position(source).step == 4
    assert source.identify()["step"] == 4
    model, optimizer = fresh(OLMO2_GROUPED)
    source.load(state_of(model, optimizer.state))
    for name, parameter in original.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    asked = [path for path, _ in server.requests]
    assert asked[0].endswith("manifest.json")
    server.requests.clear()
    # from the cache: the manifest's version is all that is asked for
    opened(url, OLMO2_GROUPED, cache)
    assert {path for path, _ in server.requests} == {"/run/checkpoints/step4/manifest.json"}


def test_a_damaged_one_over_http_is_refused(server: FileServer, tmp_path: Path) -> None:
    write_own(server.folder / "run", 4)
    shard = server.folder / "run" / "checkpoints" / "step4" / "model_and_optim" / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"__0_0\.distcp: its SHA-256 is"):
        opened(f"{server.url}/run/checkpoints/step4", OLMO2_GROUPED, tmp_path / "cache")


def test_others_over_http(server: FileServer, tmp_path: Path) -> None:
    other = theirs(OLMO2_GROUPED)
    other.save_pretrained(server.folder / "hf", max_shard_size="10KB")
    write_olmo(server.folder / "step7-unsharded", OLMO2_GROUPED, "safetensors")
    for name in ("hf", "step7-unsharded"):
        model, optimizer = fresh(OLMO2_GROUPED)
        source = opened(f"{server.url}/{name}", OLMO2_GROUPED, tmp_path / "cache")
        source.load(state_of(model, optimizer.state if source.position else None))
        assert same_logits(model, other)
    with pytest.raises(InputError, match=r"no checkpoint there.*cannot be listed over http"):
        opened(f"{server.url}/run", OLMO2_GROUPED, tmp_path / "cache")


def test_a_run_folder_s_newest_is_taken_here_and_by_fsspec(tmp_path: Path) -> None:
    write_own(tmp_path / "run", 4, 12)
    for url in (str(tmp_path / "run"), f"file://{tmp_path}/run"):
        assert position(opened(url, OLMO2_GROUPED, tmp_path / "cache")).step == 12


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_of_checkpoints_is_told_from_one(scheme: str, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (4, 12, 100):
        (folder / f"step{step}").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        opened(f"{scheme}{folder}/", OLMO2_GROUPED, tmp_path / "cache")
    said = str(error.value)
    assert "holds checkpoints and is none; give one of them (step4, step12, step100)" in said
    assert said.endswith(f"the newest is also found by {scheme}{tmp_path}/run")
    for step in range(200, 208):
        (folder / f"step{step}").mkdir()
    with pytest.raises(InputError, match=r"one of them \(…, step200, .*step207\)$"):
        opened(folder.rename(tmp_path / "some"), OLMO2_GROUPED)


def test_a_damaged_newest_one_of_another_run_is_not_passed_over(tmp_path: Path) -> None:
    write_own(tmp_path / "run", 4, 8, 12)
    for step in (8, 12):
        shard = (
            tmp_path / "run" / "checkpoints" / f"step{step}" / "model_and_optim" / "__0_0.distcp"
        )
        os.truncate(shard, 100)
    with pytest.raises(InputError) as error:
        opened(tmp_path / "run", OLMO2_GROUPED)
    assert f"{shard}: 100 bytes" in str(error.value)
    assert f"the whole one before it is {tmp_path}/run/checkpoints/step4" in str(error.value)
    before = opened(tmp_path / "run" / "checkpoints" / "step4", OLMO2_GROUPED)
    assert position(before).step == 4


def test_each_rank_reads_its_share_and_none_is_left_out(tmp_path: Path) -> None:
    write_own(tmp_path, 4)
    checkpoint = Checkpoint(tmp_path / "checkpoints" / "step4")
    checkpoint.verify()
    files = sorted(checkpoint.read_manifest())
    for index, name in enumerate(files):
        os.truncate(checkpoint.path / name, 3)
        for rank in range(2):
            if rank == index % 2:
                with pytest.raises(ValueError, match=name):
                    checkpoint.verify(share=(rank, 2))
        write_own(tmp_path, 4)


def test_a_model_folder_of_ours_as_a_soup_leaves_it(tmp_path: Path) -> None:
    original, _ = fresh(OLMO2_GROUPED)
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.normal_()
    save_model(tmp_path / "model", original, {"model": to_dict(OLMO2_GROUPED)})
    source = opened(tmp_path / "model", OLMO2_GROUPED)
    assert source.position is None
    model, _ = fresh(OLMO2_GROUPED)
    source.load(state_of(model, None))
    for name, parameter in original.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)


def write_soup(folder: Path) -> None:
    save_model(folder, fresh(OLMO2_GROUPED)[0], {"model": to_dict(OLMO2_GROUPED)})


@pytest.mark.parametrize(
    ("write", "below", "named"),
    [
        (lambda f: write_own(f, 4), "checkpoints/step4", "step4/train.json"),
        (lambda f: write_own(f, 4), "", "checkpoints/step4/train.json"),
        (write_soup, "", "config.yaml"),
        (lambda f: theirs(OLMO2_GROUPED).save_pretrained(f), "", "config.json"),
        (lambda f: write_olmo(f, OLMO2_GROUPED), "", "config.yaml"),
    ],
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_theta": 77}, "model.rope_theta is 500000 there, 77 in"),
        # as many weights in tensors of the same shapes
        ({"n_heads": 2, "n_kv_heads": 1}, "model.n_heads is 4 there, 2 in"),
        ({"norm_after": False}, "model.norm_after is True there, False in"),
        ({"layer_norm_eps": 1e-5}, "model.layer_norm_eps is 1e-06 there, 1e-05 in"),
        ({"clip_qkv": 8.0}, "model.clip_qkv is None there, 8.0 in"),
        ({"n_layers": 1}, "model.n_layers is 2 there, 1 in"),
        ({"embedding_size": 60}, "model.embedding_size is 64 there, 60 in"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_wherever_it_comes_from(
    write: Callable[[Path], object],
    below: str,
    named: str,
    change: dict[str, Any],
    said: str,
    tmp_path: Path,
) -> None:
    write(tmp_path / "there")
    other = dataclasses.replace(OLMO2_GROUPED, **change)
    model, optimizer = fresh(other)
    with pytest.raises(InputError) as refused:
        opened(tmp_path / "there" / below, other).load(state_of(model, optimizer.state))
    assert f"{named}: another model: " in str(refused.value)
    assert said in str(refused.value)


def test_keys_that_change_no_function_may_differ(tmp_path: Path) -> None:
    write_own(tmp_path, 4)
    same = {"max_sequence_length": 16, "vocab_size": 50, "init_std": 0.1, "eos_token_id": 3}
    other = dataclasses.replace(OLMO2_GROUPED, **same)
    model, optimizer = fresh(other)
    opened(tmp_path, other).load(state_of(model, optimizer.state))
