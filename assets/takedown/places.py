"""Where documents stand in token files: from the index of documents, else from the files' rows."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from assets.takedown.records import Record
from olmo_core.corpus.index.collect import token_rows
from olmo_core.data.document_index import DocumentIndex, DocumentSpan

Spans = dict[str, list[DocumentSpan]]  # by id


def spans_of(
    tokens: Record,
    records: Mapping[Path, Record],
    ids: Collection[str],
    sha1s: Collection[str] = (),
) -> Spans:
    """Return where documents stand in a run of `tokens`.

    The index says it; where there is none, the rows beside all token files are read, for ids alone.

    Args:
        tokens: The run.
        records: All runs, its index among them.
        ids: Of the documents.
        sha1s: Of texts that are looked for under whatever id, in hexadecimal digits.
    """
    index = next(
        (
            each
            for each in records.values()
            if each.asset == "documents"
            and each.run.finished
            and each.inputs.get("tokens") == tokens.run.path
        ),
        None,
    )
    found: Spans = {}
    rows = _from_index(index, ids, sha1s) if index is not None else _from_rows(tokens, ids)
    for span in rows:
        found.setdefault(span.id, []).append(span)
    return found


def _from_index(
    index: Record, ids: Collection[str], sha1s: Collection[str]
) -> Iterator[DocumentSpan]:
    opened = DocumentIndex(index.run.path)
    for sha1 in sha1s:
        yield from (row for row in opened.of_sha1(bytes.fromhex(sha1)) if row.id not in ids)
    for each in ids:
        try:
            yield from opened.of_id(each)
        except KeyError:
            continue  # it was not tokenised


def _from_rows(tokens: Record, ids: Collection[str]) -> Iterator[DocumentSpan]:
    root = tokens.run.path
    wanted = set(ids)
    for path in sorted((root / "tokens").rglob("*.npy")):
        table = token_rows(path)
        for number, each in enumerate(table["id"].to_pylist()):
            if each in wanted:
                row = {name: table[name][number].as_py() for name in table.column_names}
                yield DocumentSpan(file=path.relative_to(root).as_posix(), **row)
