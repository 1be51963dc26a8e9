"""The answers: what a step saw, and what saw a document."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.models import Exposure, Model, models
from assets.lineage.runs import Lineage, Untraced
from olmo_core.data.document_index import (
    DocumentIndex,
    DroppedDocument,
    IndexedDocument,
)
from olmo_core.data.manifest import Manifest
from olmo_core.errors import ConfigError
from olmo_core.lineage.batch import Piece, TracedStep, documents_of_step
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.text import DecodedPart, Decoder
from olmo_core.lineage.visits import DocumentInRun, held_by, steps_of_document

# Documents by id, then by the run folder of the index that knows them.
Places = dict[str, dict[Path, list[IndexedDocument]]]

_SHA1 = re.compile("[0-9a-fA-F]{40}")


@dataclass(frozen=True, kw_only=True)
class DescribedPiece:
    """A part of a document in an instance, with what the index and the tokenizer know of it."""

    piece: Piece
    document: IndexedDocument
    decoded: DecodedPart


@dataclass(frozen=True, kw_only=True)
class StepAnswer:
    """What a step of a run saw; a list of pieces per instance."""

    run: TrainingRun
    step: TracedStep
    pieces: Sequence[Sequence[DescribedPiece]]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A document that an index knows, but that is in no token file."""

    index: Path  # the run folder of `documents`
    document: DroppedDocument


@dataclass(frozen=True, kw_only=True)
class InMix:
    """How much of a document a mix holds."""

    mix: str  # asset and version, as `stage1_mix/a65159664cce`
    ranges: int  # of the manifest that hold tokens of it: its repetitions, where none is cut
    tokens: int  # of it in one pass over the mix


@dataclass(frozen=True, kw_only=True)
class DocumentAnswer:
    """What saw a document, in all runs of a recipe; or why nothing did."""

    id: str
    documents: Sequence[IndexedDocument]  # its places: one, unless ids repeat or corpora differ
    mixes: Sequence[InMix]  # that hold tokens of it, trained on or not
    runs: Sequence[DocumentInRun]
    models: Sequence[tuple[Model, dict[str, Exposure]]]  # each with what its ingredients saw
    left_out: Sequence[LeftOut]


def trace_step(
    lineage: Lineage, step: int, *, stage: str = "stage1", version: str | None = None
) -> StepAnswer:
    """Return the documents of a step's batch.

    Args:
        lineage: The recipe's.
        step: From 1, as in `metrics.jsonl` and in the names of checkpoints.
        stage: The training asset.
        version: Of its run, where several are there and none is the recipe's as it stands.

    Raises:
        ConfigError: no such asset or run.
        InputError: the run has not taken this step, or there is no index of its tokens.
    """
    run = lineage.run(stage, version)
    index = lineage.index(run.folder)
    traced = documents_of_step(run, index, step)
    pieces = [*_described(traced, index, lineage.decoder(run))]
    return StepAnswer(run=run, step=traced, pieces=pieces)


class UnknownDocument(ConfigError):
    """No index of a recipe knows a document."""


def trace_document(lineage: Lineage, query: str) -> tuple[list[DocumentAnswer], list[Untraced]]:
    """Return, per document that is asked for, what saw it; and the runs that cannot be traced.

    Args:
        lineage: The recipe's.
        query: Its id, its URL, or the SHA-1 of its text in hexadecimal digits.

    Raises:
        UnknownDocument: no index of the recipe knows such a document.
    """
    opened, untraced = opened_runs(lineage)
    places: Places = {}
    left_out: dict[str, list[LeftOut]] = {}
    indexes = lineage.indexes([run.folder for run in opened])
    for folder in indexes:
        known, dropped = _asked(lineage.open_index(folder), query)
        for document in known:
            places.setdefault(document.id, {}).setdefault(folder, []).append(document)
        for each in dropped:
            left_out.setdefault(each.id, []).append(LeftOut(index=folder, document=each))
    if not places and not left_out:
        raise UnknownDocument(_unknown(lineage, indexes, query))
    return answers_of(lineage, opened, places, left_out), untraced


def opened_runs(lineage: Lineage) -> tuple[list[TrainingRun], list[Untraced]]:
    """Return the training runs of a recipe, and those that cannot be traced."""
    opened: list[TrainingRun] = []
    untraced: list[Untraced] = []
    for run in lineage.every():
        if isinstance(run, Untraced):
            untraced.append(run)
        else:
            opened.append(run)
    return opened, untraced


def answers_of(
    lineage: Lineage,
    opened: Sequence[TrainingRun],
    places: Places,
    left_out: Mapping[str, Sequence[LeftOut]],
) -> list[DocumentAnswer]:
    """Return what saw each document, by id."""
    made = models(lineage, opened)
    answers: list[DocumentAnswer] = []
    for name in sorted(places.keys() | left_out.keys()):
        of_name = places.get(name, {})
        found: dict[Path, list[DocumentInRun]] = {}
        for run in opened:
            for document in of_name.get(lineage.index_folder(run.folder), []):
                found.setdefault(run.folder.path, []).append(steps_of_document(run, document))
        answers.append(
            DocumentAnswer(
                id=name,
                documents=list(dict.fromkeys(each for rows in of_name.values() for each in rows)),
                mixes=[*_mixes(lineage, of_name)],
                runs=[each for rows in found.values() for each in rows],
                models=[(model, model.exposures(found)) for model in made],
                left_out=left_out.get(name, []),
            )
        )
    return answers


def _mixes(lineage: Lineage, places: Mapping[Path, Sequence[IndexedDocument]]) -> Iterator[InMix]:
    for asset, run, index in lineage.mixes():
        manifest = Manifest.read(run.path / "manifest.json", root=run.path)  # opens no token file
        held = [n for document in places.get(index, ()) for n in held_by(manifest, document)]
        if held:
            yield InMix(mix=f"{asset}/{run.path.name}", ranges=len(held), tokens=sum(held))


def _described(
    traced: TracedStep, index: BatchedDocumentIndex, decoder: Decoder
) -> Iterator[list[DescribedPiece]]:
    """Yield the pieces of each instance; all documents are looked up at once."""
    spans = list(dict.fromkeys(each.document for of in traced.instances for each in of.pieces))
    known = dict(zip(spans, index.known(spans), strict=True))
    for instance in traced.instances:
        yield [
            DescribedPiece(
                piece=piece,
                document=(document := known[piece.document]),
                decoded=decoder.document(document, document.sha1).part(piece.start, piece.stop),
            )
            for piece in instance.pieces
        ]


def _asked(index: DocumentIndex, query: str) -> tuple[list[IndexedDocument], list[DroppedDocument]]:
    """Return what an index knows by this id, this URL, or the SHA-1 of these digits."""
    known, dropped = index.of_url(query), index.dropped_of_url(query)
    with contextlib.suppress(KeyError):  # no document of this id was tokenised
        known += index.of_id(query)
    dropped += index.dropped_of_id(query)
    if _SHA1.fullmatch(query):
        sha1 = bytes.fromhex(query)
        known += index.of_sha1(sha1)
        dropped += index.dropped_of_sha1(sha1)
    return list(dict.fromkeys(known)), list(dict.fromkeys(dropped))


def _unknown(lineage: Lineage, indexes: Sequence[Path], query: str) -> str:
    name = lineage.graph.recipe.name
    if not indexes:
        return f"{name}: no documents index is made; olmo run {name} --select documents"
    there = ", ".join(f"documents/{folder.name}" for folder in indexes)
    return (
        f"{name}: no document of the id, URL or SHA-1 {query!r}, neither tokenised nor left out, "
        f"in {there}; olmo corpus inspect {name} --grep finds documents by their text"
    )
