"""Saving beside the training: whole or not there, whatever happens meanwhile."""

import errno
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict_saver import save as save_state_dict

from olmo_core.checkpoint import layout, shards
from olmo_core.checkpoint.layout import Checkpoint
from olmo_core.checkpoint.load import load_state
from olmo_core.checkpoint.save import Saver
from olmo_core.checkpoint.state import state_of
from olmo_core.checkpoint.weights import save_model
from olmo_core.config.load import to_dict
from olmo_core.config.model import ModelConfig
from olmo_core.errors import InputError
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from tests.olmo_core.checkpoint import ranks
from tests.olmo_core.checkpoint.ranks import ALONE, TRAIN, trained, whole
from tests.processes import exit_codes, free_ports


def save(saver: Saver, step: int, of: tuple[Any, Any] | None = None, **more: Any) -> Path:
    return saver.save(*(of or trained(1)), {**TRAIN, "step": step}, kind="sharded", **more)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every write wait for the event that this yields."""
    go, real = threading.Event(), shards.Shards.write

    def write(self: shards.Shards, folder: Path) -> shards.Written:
        assert go.wait(60)
        return real(self, folder)

    with monkeypatch.context() as patched:
        patched.setattr(shards.Shards, "write", write)
        try:
            yield go
        finally:
            go.set()


def test_the_bytes_are_the_same_in_the_background(tmp_path: Path) -> None:
    for name, asynchronous in (("a", False), ("b", True), ("c", True)):
        saver = Saver(tmp_path / name, ALONE, asynchronous=asynchronous)
        for step in (1, 2):
            save(saver, step)
        saver.finish()
        assert saver.whole_step == 2
        for step in (1, 2):
            Checkpoint(tmp_path / name / "checkpoints" / f"step{step}").verify()
    one, two, three = (content(tmp_path / name) for name in "abc")
    assert one == two == three
    assert "checkpoints/step2/model_and_optim/.metadata" in one


def test_torch_s_own_reader_reads_it(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    path = save(Saver(tmp_path, ALONE, asynchronous=False), 1, (model, optimizer))
    dcp_to_torch_save(path / layout.STATE, tmp_path / "plain.pt")
    found = torch.load(tmp_path / "plain.pt", weights_only=True)
    expected = whole(model, optimizer)
    assert len(found) == len(expected)
    for name, parameter in model.named_parameters():
        assert torch.equal(found[f"model.{name}"], parameter)
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(found[f"optim.{name}.{key}"], value)


def test_training_may_go_on_and_the_next_save_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = trained(1)
    expected = whole(model, optimizer)
    saver = Saver(tmp_path, ALONE, asynchronous=True)
    with held(monkeypatch) as go:
        save(saver, 1, (model, optimizer))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
                optimizer.state[parameter]["exp_avg"].zero_()
        assert saver.whole_step is None
        assert not layout.list_checkpoints(tmp_path)
        seen: list[int] = []
        threading.Timer(0.05, go.set).start()
        save(saver, 2, then=lambda: seen.append(2))
        assert saver.whole_step == 1 or seen == [2]  # the first was whole before the second began
    saver.finish()
    assert seen == [2]
    again, other = trained(2)
    load_state(layout.list_checkpoints(tmp_path)[0], state_of(again, other.state))
    found = whole(again, other)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("model.1.weight"), r"1 missing tensors: model\.1\.weight$"),
        (lambda state: state.update({"foo.x": torch.ones(1)}), r"1 unexpected tensors: foo\.x$"),
        (
            lambda state: state.update({"model.1.weight": "text"}),
            r"model\.1\.weight is no tensor, ",
        ),
        (lambda state: state.update({"model.1.weight": torch.ones(2)}), r"weight is \(2,\), the "),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_tensors_of_another_checkpoint_are_not_read(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = save(Saver(tmp_path, ALONE, asynchronous=False), 1)
    dcp_to_torch_save(path / layout.STATE, tmp_path / "plain.pt")
    state = torch.load(tmp_path / "plain.pt", weights_only=True)
    change(state)
    save_state_dict(state, checkpoint_id=tmp_path / "changed" / layout.STATE, no_dist=True)
    model, optimizer = trained(2)
    before = whole(model, optimizer)
    with pytest.raises(InputError, match=rf"{layout.STATE}: .*{message}"):
        load_state(Checkpoint(tmp_path / "changed"), state_of(model, optimizer.state))
    found = whole(model, optimizer)
    assert all(torch.equal(found[name], before[name]) for name in before)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses what is written beyond `size`, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores SIGXFSZ
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    real = shards._DigestedStream.write  # pyright: ignore[reportPrivateUsage]
    ranks.fail_after(size)
    try:
        yield
    finally:
        shards._DigestedStream.write = real  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("limit", "code"), [(files_of_at_most, errno.EFBIG), (full_disk, errno.ENOSPC)]
)
@pytest.mark.parametrize("size", [10, 10_000, 25_000])
def test_a_disk_that_fills_up_costs_nothing_that_was_whole(
    tmp_path: Path, limit: Callable[[int], Any], code: int, size: int
) -> None:
    saver = Saver(tmp_path, ALONE, asynchronous=True)
    save(saver, 1)
    saver.finish()
    before, removed = content(tmp_path), []
    with limit(size):
        save(saver, 2, then=lambda: removed.append(2))
        with pytest.raises(InputError) as caught:
            saver.finish()
    message = str(caught.value)
    assert os.strerror(code) in message
    assert "step2.tmp/model_and_optim/__0_0.distcp" in message
    assert f"{tmp_path}/checkpoints/step1 is kept" in message
    assert saver.failed
    assert saver.whole_step == 1
    assert not removed
    assert content(tmp_path) == before
    with pytest.raises(InputError, match="step2: not saved"):
        save(saver, 3)
    save(Saver(tmp_path, ALONE, asynchronous=True), 2)  # started again, with room


def test_what_follows_a_whole_checkpoint_may_fail_by_name(tmp_path: Path) -> None:
    saver = Saver(tmp_path, ALONE, asynchronous=True)

    def then() -> None:
        assert layout.list_checkpoints(tmp_path)
        raise PermissionError(errno.EACCES, "Permission denied", "step0")

    save(saver, 1, then=then)
    with pytest.raises(InputError, match=r"step1 is whole, but .* denied: 'step0'"):
        saver.finish()
    assert saver.whole_step == 1


def test_as_a_context_it_waits_and_lets_the_block_s_error_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saver = Saver(tmp_path, ALONE, asynchronous=True)

    def diverge(step: int) -> None:
        with saver:
            save(saver, step)
            raise KeyError

    with pytest.raises(KeyError):
        diverge(1)
    assert saver.whole_step == 1
    with full_disk(10), pytest.raises(KeyError):
        diverge(2)
    assert "step2: not saved" in caplog.text


UNCAUGHT = """
import pathlib, threading
from olmo_core.checkpoint import shards
from olmo_core.checkpoint.save import Saver
from tests.olmo_core.checkpoint.ranks import ALONE, TRAIN, trained
begun = threading.Event()
shards.Shards.write = lambda *_: (begun.set(), threading.Event().wait())
saver = Saver(pathlib.Path({folder!r}), ALONE, asynchronous=True)
saver.save(*trained(1), {{**TRAIN, "step": 1}}, kind="sharded")
begun.wait()
raise KeyError("training")
"""


def test_an_error_ends_the_process_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("KeyError: 'training'")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step1.tmp"]


def on_ranks(size: int, folder: Path, task: str) -> dict[int, str]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.olmo_core.checkpoint.ranks"])
    [port] = free_ports(1)
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=ranks.run, args=(rank, size, port, str(folder), task, answers))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    assert exit_codes(processes, 120) == [0] * size
    return dict(answers.get() for _ in range(size))


@pytest.mark.parametrize(("size", "task"), [(2, "replicated"), (2, "sharded"), (4, "hybrid")])
def test_ranks_write_together_what_one_reads(tmp_path: Path, size: int, task: str) -> None:
    assert on_ranks(size, tmp_path, task) == dict.fromkeys(range(size), "ok")
    checkpoint = Checkpoint(tmp_path / "checkpoints" / "step1")
    checkpoint.verify()
    files = [path for path in content(checkpoint.path) if path.endswith(".distcp")]
    sizes = [(checkpoint.path / path).stat().st_size for path in files]
    assert len(files) == size
    assert max(sizes) < 1.5 * sum(sizes) / size  # each wrote a share, nobody everything
    model, optimizer = trained(2)
    load_state(checkpoint, state_of(model, optimizer.state))
    expected, found = torch.load(tmp_path / "expected.pt"), whole(model, optimizer)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_two_sharded_ranks_read_what_one_wrote(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    save(Saver(tmp_path, ALONE, asynchronous=False), 1, (model, optimizer))
    torch.save(whole(model, optimizer), tmp_path / "expected.pt")
    assert on_ranks(2, tmp_path, "reshard") == {0: "ok", 1: "ok"}


def test_two_sharded_ranks_read_a_file_of_whole_weights(tmp_path: Path) -> None:
    config = ModelConfig(
        d_model=24, n_heads=4, n_layers=2, mlp_hidden_size=80, rope=True, attention_dropout=0.0,
        residual_dropout=0.0, embedding_dropout=0.0, include_bias=False, weight_tying=True,
        layer_norm_with_affine=False, max_sequence_length=32, vocab_size=60, embedding_size=63,
    )  # fmt: skip
    model = Transformer(config)
    initialise(model, 5)
    save_model(tmp_path, model, {"model": to_dict(config)})
    assert on_ranks(2, tmp_path, "weights alone") == {0: "ok", 1: "ok"}


def test_one_rank_s_failure_is_every_rank_s(tmp_path: Path) -> None:
    answers = on_ranks(2, tmp_path, "fail on rank 1")
    assert answers[0] == answers[1]
    assert answers[0].startswith("True 1 ")
    assert "step2.tmp/model_and_optim/__1_0.distcp" in answers[0]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step1"]
