"""Some files filtered: judged by our rules, mixed by the dolma toolkit, and the two compared."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import DROPPED_FOLDER, Document, text_facts, write_shards
from olmo_core.corpus.filters.replacements import (
    EXPERIMENT,
    Replacement,
    mixer_spans,
    replaced,
    spans_to_replace,
)
from olmo_core.corpus.filters.rules import Rule, Verdict
from olmo_core.corpus.rows import packed, read_rows, row_line, write_rows
from olmo_core.corpus.toolkit import (
    Marked,
    ToolkitCommand,
    ToolkitError,
    joined,
    link_view,
    marked_rows,
    run_steps,
)
from olmo_core.errors import InputError

MAX_BYTES = 2**31  # of one file that the toolkit writes; `compare` reads them


@dataclass(frozen=True, kw_only=True)
class Source:
    """What becomes of the documents of a source."""

    rules: Sequence[Rule]
    replacements: Sequence[Replacement]
    attributes: Sequence[Path]  # folders that hold a file for each file of its documents


def filter_files(
    documents: Path,
    sources: Mapping[str, Source],
    shard_bytes: int,
    processes: int,
    names: Sequence[str],
    out: Path,
) -> dict[str, Any]:
    """Write the documents of some files that stay, as `out/documents/<source>/part-*.jsonl.gz`.

    Beside them `out/dropped/<source>/part-00000.jsonl.gz` has a row per document that goes.

    Args:
        documents: All documents.
        sources: What becomes of each source.
        shard_bytes: Of text in a file.
        processes: Of the mixer.
        names: Of the files, below `documents` and each folder of attributes.
        out: Where to write.

    Returns:
        Source -> what `Verdict.facts` says of its documents in these files.

    Raises:
        ToolkitError: dolma's mixer does not keep the same, or files do not stand row for row.
        InputError: a file is damaged.
    """
    mixing = out / "mixing"
    targets = {f"documents/{name}": documents / name for name in names}
    for name in names:
        for folder in sources[Path(name).parts[0]].attributes:
            targets[f"attributes/{folder.name}/{name}"] = folder / name
    link_view(mixing / "view", targets)
    grouped = groupby(names, lambda name: Path(name).parts[0])
    by_source = {source: list(found) for source, found in grouped}
    verdicts: dict[str, Verdict] = {}
    kept: dict[str, list[tuple[str, int]]] = {}  # id and hash of the text
    for source, files in by_source.items():
        verdicts[source] = Verdict(rules=sources[source].rules)
        kept[source] = []
        dropped: list[dict[str, Any]] = []
        staying = (
            document
            for name in files
            for document in _staying(
                marked_rows(
                    documents / name, *(each / name for each in sources[source].attributes)
                ),
                verdicts[source],
                dropped,
                f"{documents.name}/{name}",
                sources[source].replacements,
                mixing / "view" / "attributes" / EXPERIMENT / name,
            )
        )
        noted = _noted(staying, kept[source])
        write_shards(out / "documents" / source, noted, shard_bytes=shard_bytes)
        if dropped:
            write_rows(out / DROPPED_FOLDER / source / "part-00000.jsonl.gz", dropped)
    run_steps([[_mix_step(by_source, sources, processes)]], mixing, processes=1)
    for source, expected in kept.items():
        compare(mixing / "mixed" / source, expected)
    shutil.rmtree(mixing)
    return {source: verdict.facts() for source, verdict in verdicts.items()}


def _staying(
    rows: Iterable[Marked],
    verdict: Verdict,
    dropped: list[dict[str, Any]],
    file: str,
    replacements: Sequence[Replacement],
    spans_path: Path,
) -> Iterator[Document]:
    """Yield the documents of a file that stay, as they stay; note those that go in `dropped`.

    The spans that are to be replaced are written for the mixer.
    """
    with contextlib.ExitStack() as stack:
        mixer = stack.enter_context(packed(spans_path)) if replacements else None
        for line, (document, marks) in enumerate(rows, start=1):
            attributes = joined(document.id, marks)
            spans = spans_to_replace(attributes, replacements)
            if mixer is not None:
                row = {"id": document.id, "attributes": mixer_spans(spans, replacements)}
                mixer.write(row_line(row))
            left = replaced(document.text, spans)
            if reason := verdict.add(document, attributes, left):
                place = {"reason": reason, "src": file, "loc": line}
                facts = text_facts(document.text, document.metadata)
                dropped.append({"id": document.id, **place, **facts})
                continue
            verdict.replaced.update(span.by.name for span in spans)
            yield replace(document, text=left) if spans else document


def _noted(documents: Iterable[Document], kept: list[tuple[str, int]]) -> Iterator[Document]:
    for document in documents:
        kept.append((document.id, hash(document.text)))
        yield document


def _mix_step(
    by_source: Mapping[str, Sequence[str]], sources: Mapping[str, Source], processes: int
) -> ToolkitCommand:
    """Return the call of dolma's mixer for some files: one stream per source."""
    streams = [
        {
            "name": source,
            "documents": [f"view/documents/{name}" for name in names],
            "attributes": [
                *(folder.name for folder in sources[source].attributes),
                *([EXPERIMENT] if sources[source].replacements else []),
            ],
            "filter": {
                "include": [],
                # A stream must have a filter; one that is never true keeps everything.
                "exclude": [rule.jq() for rule in sources[source].rules] or ["false"],
                "syntax": "jq",
            },
            "span_replacement": [each.mixer() for each in sources[source].replacements],
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
            "processes": processes,
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
            for line_number, row in enumerate(read_rows(path), start=1):
                if not row["text"].strip():
                    continue  # left blank by its replacements
                wanted = next(expected, None)
                if wanted != (row["id"], hash(row["text"])):
                    raise ToolkitError(
                        f"{path}:{line_number}: dolma kept {row['id']!r}; the rules of "
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
