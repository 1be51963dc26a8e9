"""The index of a checkpoint is read as torch reads it, and runs nothing."""

import enum
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from olmo_core.checkpoint.index import IndexReader
from olmo_core.errors import InputError


class Touch:
    """Pickled as an order to run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = {"a": torch.arange(6).view(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)}
    save(state, checkpoint_id=tmp_path / "state", no_dist=True)
    return tmp_path / "state"


def test_it_is_what_torch_reads(folder: Path) -> None:
    ours, theirs = (reader(folder).read_metadata() for reader in (IndexReader, FileSystemReader))
    assert ours.state_dict_metadata == theirs.state_dict_metadata
    assert ours.storage_data == theirs.storage_data
    state = {"a": torch.zeros(2, 3, dtype=torch.int64), "b": torch.zeros(3, dtype=torch.bfloat16)}
    load(state, storage_reader=IndexReader(folder), no_dist=True)
    assert state["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


class EarlyPickler(pickle.Pickler):
    """Pickles as Python 3.11.2, which Debian 12 has: members of enums by `getattr`."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, enum.Enum):
            return getattr, (type(obj), obj.name)
        return NotImplemented


def test_an_index_written_by_an_early_3_11_is_read(folder: Path) -> None:
    index = FileSystemReader(folder).read_metadata()
    with (folder / ".metadata").open("wb") as content:
        EarlyPickler(content).dump(index)
    assert b"getattr" in (folder / ".metadata").read_bytes()
    assert IndexReader(folder).read_metadata().state_dict_metadata == index.state_dict_metadata


def test_an_index_that_would_run_a_command_is_refused(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = [
        pickle.dumps(Touch(canary)),
        pickle.dumps(Metadata(state_dict_metadata={}, planner_data=Touch(canary))),
        b"ctorch.serialization\n_get_layout\n(S'x'\ntR.",
        b"cbuiltins\ngetattr\n(ctorch\nSize\nS'__init__'\ntR.",
        b"cbuiltins\ngetattr\n(ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\n"
        b"S'__class__'\ntR.",
    ]
    for content in hostile:
        (folder / ".metadata").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as a plain index"):
            IndexReader(folder).read_metadata()
    assert not canary.exists()
    pickle.loads(hostile[0])  # the canary would have been seen
    assert canary.exists()


@pytest.mark.parametrize("name", ["../state/__0_0.distcp", "/etc/passwd", ".."])
def test_files_elsewhere_are_refused(folder: Path, name: str) -> None:
    index = FileSystemReader(folder).read_metadata()
    index.storage_data = {
        key: replace(entry, relative_path=name) for key, entry in index.storage_data.items()
    }
    (folder / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(InputError, match="no file beside it"):
        IndexReader(folder).read_metadata()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04", pickle.dumps({"a": 1})])
def test_what_is_no_index_is_named(folder: Path, content: bytes) -> None:
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(InputError, match=r"\.metadata: "):
        IndexReader(folder).read_metadata()
