"""The documents of a training that others have run: of a step, and the steps of one."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from olmo_core.data.document_index import DocumentSpan
from olmo_core.errors import InputError
from olmo_core.lineage.batch import Piece
from olmo_core.lineage.official import OfficialRun, Place
from olmo_core.lineage.published_rows import PublishedRows
from olmo_core.lineage.run import Taken
from olmo_core.remote.storage import Missing


@dataclass(frozen=True, kw_only=True)
class OfficialInstance:
    """One instance of a batch, and its documents; None where its file has no rows beside it."""

    instance: int  # place in the global batch
    window: int  # number among all windows of data.paths
    place: Place
    pieces: Sequence[Piece] | None


@dataclass(frozen=True, kw_only=True)
class OfficialDocument:
    """A document of a published token file, and each time that it was read."""

    document: DocumentSpan
    in_windows: int  # its tokens in one pass over the file; a file's tail is in no window
    taken: Sequence[Taken]


def documents_of_official_step(
    run: OfficialRun, step: int, instances: Sequence[int] = ()
) -> tuple[int, list[OfficialInstance]]:
    """Return the epoch of a step and the documents of its batch; rows of its files alone are read.

    Args:
        run: See `open_official`.
        step: From 1.
        instances: Places in the batch, from 0; none: all.

    Raises:
        InputError: the run takes no such step or has no such instance, or rows are of another file.
    """
    epoch, windows = run.batch(step)
    if beyond := [each for each in instances if not 0 <= each < len(windows)]:
        raise InputError(f"instance {beyond[0]}: a batch has the instances 0 to {len(windows) - 1}")
    places = {each: run.place(int(windows[each])) for each in instances or range(len(windows))}
    pieces: dict[int, list[Piece]] = {}
    for file in dict.fromkeys(place.file for place in places.values()):
        within = {each: place for each, place in places.items() if place.file == file}
        try:
            rows = PublishedRows(file, run.places[file], run.config.core.cache)
        except Missing:
            continue
        ranges = [(place.start, place.stop) for place in within.values()]
        for each, (start, stop), spans in zip(within, ranges, rows.between(ranges), strict=True):
            pieces[each] = [_piece(span, start, stop) for span in spans]
    return epoch, [
        OfficialInstance(
            instance=each, window=int(windows[each]), place=place, pieces=pieces.get(each)
        )
        for each, place in places.items()
    ]


def steps_of_official_document(
    run: OfficialRun, name: str, matching: Sequence[str] = ()
) -> tuple[list[OfficialDocument], list[str]]:
    """Return the documents of an id with the steps that read them, and the files without rows.

    The rows of every file that matches are read, until the end: there is no index of them.

    Args:
        run: See `open_official`.
        name: The document's id.
        matching: Patterns of `data.paths`; none: all.

    Raises:
        InputError: no path matches, or rows cannot be read.
    """
    files = [
        path
        for path in run.places
        if not matching or any(fnmatch.fnmatchcase(path, pattern) for pattern in matching)
    ]
    if not files:
        raise InputError(f"{', '.join(matching)}: true of none of the {len(run.places)} data.paths")
    found: list[OfficialDocument] = []
    without: list[str] = []
    for file in files:
        try:
            rows = PublishedRows(file, run.places[file], run.config.core.cache)
        except Missing:
            without.append(file)
            continue
        for span in rows.of_id(name):
            kept = run.tokens_in_windows(file)
            inside = max(0, min(span.end, kept) - span.start)
            taken = run.taken(file, span.start, span.end)
            found.append(OfficialDocument(document=span, in_windows=inside, taken=taken))
    return found, without


def _piece(span: DocumentSpan, start: int, stop: int) -> Piece:
    """Return the part of a document that lies in the window [start, stop) of its file."""
    first, last = max(start, span.start), min(stop, span.end)
    return Piece(
        document=span,
        start=first - span.start,
        stop=last - span.start,
        offset=first - start,
        labelled=True,
    )
