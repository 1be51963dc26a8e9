"""Some files filtered: judged by our rules, mixed by the dolma toolkit, and the two compared."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import Document, read_documents, write_shards
from olmo_core.corpus.filters.rules import Rule, Verdict
from olmo_core.corpus.toolkit import (
    Marked,
    ToolkitCommand,
    ToolkitError,
    link_view,
    marked_rows,
    run_steps,
)
from olmo_core.errors import InputError

Rules = Mapping[str, Sequence[Rule]]  # by source

MAX_BYTES = 2**31  # of one file that the toolkit writes; `compare` reads them


def filter_files(
    documents: Path,
    attributes: Sequence[Path],
    rules: Rules,
    shard_bytes: int,
    names: Sequence[str],
    out: Path,
) -> dict[str, Any]:
    """Write the documents of some files that stay, as `out/documents/<source>/part-*.jsonl.gz`.

    Args:
        documents: All documents.
        attributes: A folder of attributes for each that wrote them.
        rules: Of each source.
        shard_bytes: Of text in a file.
        names: Of the files, below `documents` and each folder of `attributes`.
        out: Where to write.

    Returns:
        Source -> what `Verdict.facts` says of its documents in these files.

    Raises:
        ToolkitError: dolma's mixer does not keep the same, or files do not stand row for row.
        InputError: a file is damaged.
    """
    grouped = groupby(names, lambda name: Path(name).parts[0])
    by_source = {source: list(found) for source, found in grouped}
    verdicts: dict[str, Verdict] = {}
    kept: dict[str, list[tuple[str, int]]] = {}  # id and hash of the text
    for source, files in by_source.items():
        verdicts[source] = Verdict(rules=rules[source])
        kept[source] = []
        rows = (
            row
            for name in files
            for row in marked_rows(documents / name, *(folder / name for folder in attributes))
        )
        staying = _staying(rows, verdicts[source], kept[source])
        write_shards(out / "documents" / source, staying, shard_bytes=shard_bytes)
    mixing = out / "mixing"
    experiments = [folder.name for folder in attributes]
    targets = {f"documents/{name}": documents / name for name in names}
    for folder in attributes:
        targets |= {f"attributes/{folder.name}/{name}": folder / name for name in names}
    link_view(mixing / "view", targets)
    run_steps([[_mix_step(by_source, experiments, rules)]], mixing, processes=1)
    for source, expected in kept.items():
        compare(mixing / "mixed" / source, expected)
    shutil.rmtree(mixing)
    return {source: verdict.facts() for source, verdict in verdicts.items()}


def _staying(
    rows: Iterable[Marked], verdict: Verdict, kept: list[tuple[str, int]]
) -> Iterator[Document]:
    for document, marks in rows:
        if verdict.add(document, {k: v for mark in marks for k, v in mark.items()}):
            kept.append((document.id, hash(document.text)))
            yield document


def _mix_step(
    by_source: Mapping[str, Sequence[str]], experiments: Sequence[str], rules: Rules
) -> ToolkitCommand:
    """Return the call of dolma's mixer for some files: one stream per source."""
    streams = [
        {
            "name": source,
            "documents": [f"view/documents/{name}" for name in names],
            "attributes": experiments,
            "filter": {
                "include": [],
                # A stream must have a filter; one that is never true keeps everything.
                "exclude": [rule.jq() for rule in rules[source]] or ["false"],
                "syntax": "jq",
            },
            "output": {
                "path": f"mixed/{source}",
                "max_size_in_bytes": MAX_BYTES,
                "discard_fields": ["attributes"],
            },
        }
        for source, names in by_source.items()
    ]
    return ToolkitCommand(
        name="mix",
        kind="mixer",
        config={
            "streams": streams,
            "processes": 1,
            "shuffle": False,  # the order of documents is the input's
            "work_dir": {"input": "dolma/input", "output": "dolma/output"},
        },
    )


def compare(folder: Path, kept: Sequence[tuple[str, int]]) -> None:
    """Hold the documents of a source that the toolkit kept against our own verdict.

    Args:
        folder: What the mixer wrote of a source.
        kept: Id and hash of the text of each document that stays.

    Raises:
        ToolkitError: another document, another text, or too few or too many.
    """
    expected = iter(kept)
    # Unshuffled, the mixer writes one file per input file, below folders of its own.
    for path in sorted(folder.rglob("*.json*.gz")):
        try:
            for line_number, document in enumerate(read_documents(path), start=1):
                wanted = next(expected, None)
                if wanted != (document.id, hash(document.text)):
                    raise ToolkitError(
                        f"{path}:{line_number}: dolma kept {document.id!r}; the rules of "
                        f"{folder.name} keep {wanted[0] if wanted else 'nothing more'!r} here"
                    )
        except InputError as error:
            raise ToolkitError(
                f"dolma's mixer ended well and left a damaged file (a full disk?): {error}"
            ) from None
    missing = next(expected, None)
    if missing is not None:
        raise ToolkitError(
            f"{folder}: dolma dropped {missing[0]!r}; the rules of {folder.name} keep it (a "
            "temporary file is left over there where it did not finish)"
        )
