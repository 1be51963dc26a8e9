"""Driving the real dolma toolkit: what it leaves is checked, and a failure says what failed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from olmo_core.corpus.document import Document, write_documents
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    ToolkitError,
    marked_files,
    run_steps,
    toolkit_identity,
    toolkit_python,
)
from olmo_core.errors import ConfigError, InputError

DOCUMENTS = [Document(id=f"s/{n}", text=f"Text {n}.", source="s") for n in range(3)]
NAME = Path("s", "part-00000.jsonl.gz")


def rows(*ids: str) -> list[Mapping[str, Any]]:
    return [{"id": name, "attributes": {}} for name in ids]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Documents, and attributes that belong to them."""
    documents, attributes = tmp_path / "documents", tmp_path / "attributes"
    write_documents(documents / NAME, DOCUMENTS)
    write_rows(attributes / NAME, rows("s/0", "s/1", "s/2"))
    return documents, attributes


def read(documents: Path, attributes: Path) -> list[list[Any]]:
    return [list(rows) for _, rows in marked_files(documents, attributes)]


def test_documents_come_with_their_attributes(pair: tuple[Path, Path]) -> None:
    assert read(*pair) == [[(document, [{}]) for document in DOCUMENTS]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (("s/0", "s/1"), ":3: found no row; expected id 's/2'"),
        (("s/0", "s/2", "s/1"), ":2: found id 's/2'; expected id 's/1'"),
        (("s/0", "s/1", "s/2", "s/3"), "more rows than the 3 of"),
    ],
)
def test_rows_that_do_not_match_are_refused(
    pair: tuple[Path, Path], ids: tuple[str, ...], message: str
) -> None:
    write_rows(pair[1] / NAME, rows(*ids))
    with pytest.raises(ToolkitError, match=message):
        read(*pair)


def test_files_that_do_not_match_are_refused(pair: tuple[Path, Path]) -> None:
    documents, attributes = pair
    write_rows(attributes / "s" / "other.jsonl.gz", rows())
    with pytest.raises(ToolkitError, match=r"not expected \['s/other\.jsonl\.gz'\]"):
        read(documents, attributes)
    (attributes / "s" / "other.jsonl.gz").rename(attributes / "s" / "other.jsonl.gz.tmp")
    with pytest.raises(ToolkitError, match=r"not expected .*other\.jsonl\.gz\.tmp.*left over"):
        read(documents, attributes)


def test_truncated_attributes_are_refused(pair: tuple[Path, Path]) -> None:
    content = (pair[1] / NAME).read_bytes()
    (pair[1] / NAME).write_bytes(content[:-12])
    with pytest.raises(InputError, match="truncated"):
        read(*pair)


def test_a_missing_environment_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "python"
    monkeypatch.setenv("OLMO_DOLMA_PYTHON", str(missing))
    with pytest.raises(ConfigError, match=rf"make setup.*OLMO_DOLMA_PYTHON \(now {missing}\)"):
        toolkit_python()


def test_the_version_driven_is_known_without_importing_it() -> None:
    assert toolkit_identity()["dolma"].split(".")[0] == "1"


def test_an_environment_without_dolma_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_DOLMA_PYTHON", sys.executable)
    step = ToolkitCommand(name="tag", kind="tag", config={})
    with pytest.raises(
        ToolkitError, match=r"exited 1; not done: \['tag'\][\s\S]*No module named 'dolma'"
    ):
        run_steps([[step]], tmp_path, processes=1)


def test_a_toolkit_that_was_killed_is_told_with_the_steps_that_had_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho first\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setenv("OLMO_DOLMA_PYTHON", str(python))
    stages = [[ToolkitCommand(name=name, kind="tag", config={})] for name in ("first", "second")]
    with pytest.raises(ToolkitError, match=r"toolkit exited -9; not done: \['second'\]"):
        run_steps(stages, tmp_path, processes=1)


BAD = ToolkitCommand(
    name="bad", kind="tag", config={"documents": [], "taggers": ["no_such_tagger"]}
)


def test_a_failed_step_shows_the_end_of_its_log_and_ends_the_plan(tmp_path: Path) -> None:
    later = ToolkitCommand(name="later", kind="tag", config={})
    with pytest.raises(ToolkitError, match=r"step bad exited 1:[\s\S]*no_such_tagger"):
        run_steps([[BAD], [later]], tmp_path, processes=1)
    assert not (tmp_path / "log" / "later.log").exists()


def stuck_step(folder: Path) -> ToolkitCommand:
    """A step that waits for ever: opening a fifo for reading waits for a writer."""
    fifo = folder / "documents" / "part.jsonl"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    config = {
        "documents": [str(fifo)],
        "destination": ["out"],
        "metadata": "meta",
        "experiment": "x",
        "taggers": ["char_length_v1"],
    }
    return ToolkitCommand(name="stuck", kind="tag", config=config)


@pytest.mark.parametrize("by", ["a failed step", "an error of the toolkit's process itself"])
def test_no_step_outlives_what_ends_the_plan(tmp_path: Path, by: str) -> None:
    plan, message = tmp_path / "plan", "step bad exited 1"
    if by != "a failed step":
        (plan / "log" / "bad.log").mkdir(parents=True)  # where a file is opened
        message = "IsADirectoryError"
    with pytest.raises(ToolkitError, match=message):
        run_steps([[stuck_step(tmp_path), BAD]], plan, processes=2)
    assert (plan / "nltk_data").is_dir()  # they work in this folder
    assert not [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(plan)]


JOB = """
import json, sys
from pathlib import Path
from olmo_core.corpus.toolkit import ToolkitCommand, run_steps
step = ToolkitCommand(**json.loads(sys.argv[2]))
run_steps([[step]], Path(sys.argv[1]), processes=1)
"""


def test_the_toolkit_dies_with_the_job(tmp_path: Path) -> None:
    step = json.dumps(asdict(stuck_step(tmp_path)))
    job = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path / "plan"), step])
    deadline = time.monotonic() + 60
    tree: list[psutil.Process] = []
    while len(tree) < 2 and time.monotonic() < deadline:  # the worker and its step
        time.sleep(0.05)
        tree = psutil.Process(job.pid).children(recursive=True)
    assert len(tree) == 2
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert alive == []
