"""A push that is killed, and run again, leaves every revision whole and sends no file twice."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from olmo_core.errors import InputError
from olmo_core.files import sha256_file
from olmo_core.release.push import plan, require_name
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report
from tests.olmo_core.release.hub_server import Hub, serving

TOKEN = "hf_neverWrittenAnywhere"
PUSH = """
import sys
from pathlib import Path
from olmo_core.errors import exit_codes
from olmo_core.release.push import plan, push
export, card, licence, *options = sys.argv[1:]
with exit_codes():
    revisions = plan(Path(export), Path(card), Path(licence))
    push("someone/tiny", revisions, private="--public" not in options,
         replace="--replace" in options, say=print)
"""
MOMENTS = [
    "repository made",
    "branch made",
    "half of a file",
    "a file arrived",
    "committed",
    "committed",  # of the next revision
]


@pytest.fixture
def hub() -> Generator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture(scope="module")
def release(family: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Run folders of an export and its card, and a licence."""
    card = family.new("model_card")
    with Job.open(card) as job:
        (card / "README.md").write_text("---\nlicense: mit\n---\n\n# Tiny\n")
        job.finish(Report())
    licence = tmp_path_factory.mktemp("licence") / "mine"
    licence.write_text("Do as you like.\n")
    return family.runs["export"], card, licence


def start(
    hub: Hub, release: tuple[Path, Path, Path], home: Path, *options: str, **environment: str
) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH, *map(str, release), *options],
        env={
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    hub.client = process.pid
    return process


def ended(process: Any) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def require_whole(hub: Hub, release: tuple[Path, Path, Path]) -> None:
    """Every branch has the files of its model, the card, the licence and the list, no more."""
    export, card, licence = release
    models = RunFolder(export).read_result()["report"]["data"]["models"]
    assert hub.branches.keys() == {model["revision"] for model in models}
    for model in models:
        files = hub.files(model["revision"])
        expected = {path.name: path for path in (export / model["path"]).iterdir()}
        expected |= {"README.md": card / "README.md", "LICENSE": licence}
        expected["revisions.txt"] = export / "revisions.txt"
        assert files.keys() - {".gitattributes"} == expected.keys()
        for name, path in expected.items():
            assert files[name] == path.read_bytes(), (model["revision"], name)


def test_killed_at_any_moment_and_run_again(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    output = ""
    for moment in MOMENTS:
        hub.kill_at = moment
        code, said = ended(start(hub, release, tmp_path))
        assert code == -9, said
        output += said
        whole = {name for name in hub.branches if hub.files(name).keys() > {".gitattributes"}}
        assert all(len(hub.files(name)) > 7 for name in whole)  # a commit has all of a revision
        assert "main" not in whole or whole == hub.branches.keys()
    code, said = ended(start(hub, release, tmp_path))
    assert code == 0, said
    require_whole(hub, release)
    assert len(hub.uploads) == len(set(hub.uploads)) > 3
    assert hub.private == {"someone/tiny": True}
    assert hub.authorizations - {""} == {f"Bearer {TOKEN}"}  # LFS's addresses need none
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert TOKEN not in output + said
    assert not [content for content in written if TOKEN.encode() in content]

    commits = len(hub.commits)
    code, said = ended(start(hub, release, tmp_path))  # nothing is left to do
    assert (code, len(hub.commits)) == (0, commits)
    assert said.count(": is there") == len(plan(*release))


def test_other_content_is_kept_until_it_is_to_be_replaced(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    assert ended(start(hub, release, tmp_path, "--public"))[0] == 0
    assert hub.private == {"someone/tiny": False}
    other = dict(hub.commits[hub.branches["main"]]["files"])
    other["README.md"] = {"content": b"theirs"}
    other["theirs.bin"] = {"content": b"theirs"}
    hub.branches["main"] = hub.commit(other, hub.branches["main"])
    before = dict(hub.branches)
    code, said = ended(start(hub, release, tmp_path, "--public"))
    assert code == 3
    assert "branch main holds other content: README.md, theirs.bin; --replace" in said
    assert hub.branches == before
    code, said = ended(start(hub, release, tmp_path, "--public", "--replace"))
    assert code == 0, said
    require_whole(hub, release)


def test_a_file_that_changed_since_it_was_exported_is_not_published(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    path = release[0] / "exports" / "stage1" / "config.json"
    content = path.read_text()
    path.write_text(content.replace("}", " }"))
    try:
        code, said = ended(start(hub, release, tmp_path))
    finally:
        path.write_text(content)
    assert code == 3
    assert f"{path}: changed since it was made" in said
    assert hub.commits[hub.branches["main"]]["files"].keys() == {".gitattributes"}


def test_main_is_last_and_every_digest_is_known(release: tuple[Path, Path, Path]) -> None:
    revisions = plan(*release)
    assert [revision.name for revision in revisions][-1] == "main"
    for revision in revisions:
        assert {n: sha256_file(p) for n, p in revision.files.items()} == revision.sha256
    stray = release[0] / "exports" / "soup" / "notes.txt"
    stray.write_text("mine")
    try:
        with pytest.raises(InputError, match=r"notes\.txt: not of this result"):
            plan(*release)
    finally:
        stray.unlink()


def test_a_hub_that_refuses_is_named(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    hub.private["someone/tiny"] = True  # but it has no branch: the answer is no repository's
    code, said = ended(start(hub, release, tmp_path))
    assert code == 1
    assert "StorageError: someone/tiny" in said
    assert TOKEN not in json.dumps(said)


@pytest.mark.parametrize(
    ("there", "option", "said"),
    [
        (False, "", "everybody sees it; --public says that this is meant"),
        (True, "--public", "private; make it public in its settings"),
    ],
)
def test_a_repository_that_is_there_is_seen_by_whom_the_push_says(
    there: bool, option: str, said: str, hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    hub.private["someone/tiny"] = there
    hub.branches["main"] = hub.commit({}, None)
    code, output = ended(start(hub, release, tmp_path, option))
    assert (code, len(hub.commits)) == (3, 1)
    assert said in output


def test_the_hub_s_reason_is_told(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    hub.refusal = "You may not make a model in someone."
    code, said = ended(start(hub, release, tmp_path))
    assert code == 1
    assert hub.refusal in said


def test_a_hub_that_may_not_be_asked_is_named(
    hub: Hub, release: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    code, said = ended(start(hub, release, tmp_path, HF_HUB_OFFLINE="1"))
    assert code == 1
    assert "StorageError: someone/tiny: OfflineModeIsEnabled: " in said
    assert not hub.authorizations


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "a/b--c", "a b/c", "a/b.git", ""])
def test_a_repository_is_organisation_and_name(name: str) -> None:
    with pytest.raises(InputError, match="expected ORGANISATION/NAME"):
        require_name(name)
    require_name("someone/tiny")
