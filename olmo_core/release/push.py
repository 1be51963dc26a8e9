"""Publish a release on the Hugging Face hub: a branch per revision, `main` last.

Nothing is kept on this side: what has been sent is asked of the hub, so that a push that was ended
at any moment goes on where it stood. A branch gets all of its files in one commit. The token is
found by huggingface_hub (HF_TOKEN, or the login) and stays there. Free of torch.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    OfflineModeIsEnabled,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from olmo_core.errors import InputError, StorageError, listed, redacted
from olmo_core.files import sha256_file
from olmo_core.run.folder import RunFolder

CARD, LICENCE, REVISIONS = "README.md", "LICENSE", "revisions.txt"
KEPT = ".gitattributes"  # the hub's own


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One branch of the repository."""

    name: str
    files: Mapping[str, Path]  # name in the repository -> the file
    sha256: Mapping[str, str]  # of each file

    @property
    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def require_name(repository: str) -> None:
    """Refuse what can be no ORGANISATION/NAME on the hub.

    Raises:
        InputError: says what is wrong with it.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"{repository!r}: expected ORGANISATION/NAME: {error}") from None
    if "/" not in repository:  # the hub would put the name of whoever pushes before it
        raise InputError(f"{repository!r}: expected ORGANISATION/NAME")


def plan(export: Path, card: Path, licence: Path) -> list[Revision]:
    """Return the revisions of an export, `main` last, each with card, licence and list.

    Args:
        export: Run folder of an export.
        card: Run folder of its model card.
        licence: The licence's text.
    """
    result = RunFolder(export).read_result()
    recorded = {export / name: file["sha256"] for name, file in result["files"].items()}
    recorded |= {
        card / name: file["sha256"] for name, file in RunFolder(card).read_result()["files"].items()
    }
    recorded[licence] = sha256_file(licence)
    shared = {CARD: card / CARD, LICENCE: licence, REVISIONS: export / REVISIONS}
    found: list[Revision] = []
    for model in result["report"]["data"]["models"]:
        folder = export / model["path"]
        files = {path.name: path for path in sorted(folder.iterdir())} | shared
        if unknown := [str(path) for path in files.values() if path not in recorded]:
            raise InputError(f"{listed(unknown)}: not of this result; take it away")
        digests = {name: recorded[path] for name, path in files.items()}
        found.append(Revision(name=model["revision"], files=files, sha256=digests))
    return sorted(found, key=lambda revision: revision.name == "main")


def push(
    repository: str,
    revisions: list[Revision],
    *,
    private: bool,
    replace: bool,
    say: Callable[[str], None],
) -> None:
    """Make the repository's branches hold these revisions, and nothing else.

    Args:
        repository: ORGANISATION/NAME; made where it is not there.
        revisions: In the order in which they are sent.
        private: Of a repository that is made; one that is there must be so, too.
        replace: Put a revision over other content of its branch.
        say: Told of each revision.

    Raises:
        InputError: everybody sees the repository and should not, or the other way round; a branch
            holds other content, or a file is not what was exported.
        StorageError: the hub cannot be reached, or refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        _require_visibility(api, repository, private=private)
        heads = {ref.name: ref.target_commit for ref in api.list_repo_refs(repository).branches}
        for revision in revisions:
            if revision.name in heads and not replace:
                _require_no_other(api, repository, revision)
        for revision in revisions:
            sent = _push_revision(api, repository, revision, new=revision.name not in heads)
            say(f"{revision.name}: {sent or 'is there'}")
        for revision in revisions:
            if _changes(api, repository, revision) != ({}, []):
                raise StorageError(
                    f"{repository}: {revision.name} is not what was sent; push again"
                )
    except StorageError:
        raise
    # a file's own error stands behind a RuntimeError
    except (HTTPError, OfflineModeIsEnabled, RuntimeError) as error:
        cause = error if isinstance(error, HTTPError) else error.__cause__ or error
        said = " ".join(str(cause).split())  # the reason is not on the first of its lines
        raise StorageError(
            redacted(f"{repository}: {type(cause).__name__}: {said}")
            + "; when that is mended, push again: what has arrived is not sent twice"
        ) from None


def _require_visibility(api: HfApi, repository: str, *, private: bool) -> None:
    if api.model_info(repository).private == private:
        return
    raise InputError(
        f"{repository}: is there, and everybody sees it; --public says that this is meant"
        if private
        else f"{repository}: is there, and private; make it public in its settings on the hub, or "
        "leave out --public"
    )


def _push_revision(api: HfApi, repository: str, revision: Revision, *, new: bool) -> str:
    """Make a branch hold a revision; return what was sent, nothing where it was there."""
    if new:
        # From the first commit, which is empty: from `main` the branch would have its files.
        first = api.list_repo_commits(repository)[-1].commit_id
        api.create_branch(repository, branch=revision.name, revision=first, exist_ok=True)
    lacking, extra = _changes(api, repository, revision)
    if not lacking and not extra:
        return ""
    additions = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=path)  # keeps its digest
        for name, path in lacking.items()
    ]
    for addition in additions:
        name = addition.path_in_repo
        if addition.upload_info.sha256.hex() != revision.sha256[name]:
            raise InputError(
                f"{lacking[name]}: changed since it was made; nothing of it is published"
            )
    heads = {ref.name: ref.target_commit for ref in api.list_repo_refs(repository).branches}
    api.preupload_lfs_files(repository, additions, revision=revision.name)
    api.create_commit(
        repository,
        [*additions, *(CommitOperationDelete(path_in_repo=name) for name in extra)],
        commit_message=f"Release {revision.name}",
        revision=revision.name,
        parent_commit=heads[revision.name],  # nobody else has written in between
    )
    sent = sum(path.stat().st_size for path in lacking.values())
    return f"{len(additions)} files, {sent:,} bytes"


def _require_no_other(api: HfApi, repository: str, revision: Revision) -> None:
    there = _tree(api, repository, revision.name)
    lacking, extra = _changes(api, repository, revision)
    if other := [*(name for name in lacking if name in there), *extra]:
        raise InputError(
            f"{repository}: branch {revision.name} holds other content: {listed(other)}; --replace "
            "puts this release in its place, another repository keeps both"
        )


def _changes(api: HfApi, repository: str, revision: Revision) -> tuple[dict[str, Path], list[str]]:
    """Return which files the branch lacks, or has with other content; and which it has besides."""
    there = _tree(api, repository, revision.name)
    lacking = {
        name: path
        for name, path in revision.files.items()
        if name not in there or not _equal(there[name], path, revision.sha256[name])
    }
    return lacking, sorted(there.keys() - revision.files.keys())


def _tree(api: HfApi, repository: str, branch: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repository, recursive=True, revision=branch)
    files = [entry for entry in entries if isinstance(entry, RepoFile)]
    return {entry.path: entry for entry in files if entry.path != KEPT}


def _equal(there: RepoFile, path: Path, sha256: str) -> bool:
    if there.lfs is not None:
        return there.lfs.sha256 == sha256
    if there.size != path.stat().st_size:
        return False
    content = path.read_bytes()  # a small one: the hub keeps large files in LFS
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)  # git's
    return there.blob_id == blob.hexdigest()
