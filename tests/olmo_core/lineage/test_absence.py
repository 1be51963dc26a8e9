"""Proofs of absence against what the batches hold, token by token."""

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.config.duration import BEGINNING, Batching
from olmo_core.data import document_index
from olmo_core.data.instances import Instances
from olmo_core.data.manifest import Manifest
from olmo_core.errors import InputError
from olmo_core.lineage.absence import Unwanted, prove_absence
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.steps import StepLog
from olmo_core.run.folder import RunFolder
from tests.olmo_core.documents import Corpus, sha1_of, write_corpus

LENGTH, SIZE = 32, 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus")


def run_of(corpus: Corpus, folder: Path, first: int, last: int) -> TrainingRun:
    """A run that has taken the steps from `first` to `last`; nothing is logged of it."""
    data = Instances(Manifest.read(corpus.manifest, root=corpus.folder), sequence_length=LENGTH)
    return TrainingRun(
        name="stage1",
        folder=RunFolder(folder),
        data=data,
        batching=Batching(instances=data.count, size=SIZE, origin=BEGINNING),
        spec={"algorithm": "feistel", "seed": 3, "first_epoch": 0},
        instance_filter=None,
        log=StepLog(RunFolder(folder), skips=True),
        first_step=first,
        last_step=last,
        finished=True,
        parent=None,
        ranks_of_its_attempt=1,
    )


def named(*ids: str) -> Unwanted:
    return Unwanted(sha1s={sha1_of(each) for each in ids}, urls=(), ids=())


def read_by(run: TrainingRun, corpus: Corpus) -> Counter[str]:
    """Count the tokens of each document in all batches, found by searching for each window."""
    found: Counter[str] = Counter()
    for step in range(run.first_step, run.last_step + 1):
        _, windows = run.batch(step)
        for ids in run.data.read(windows):
            for name, start, stop in corpus.search(ids):
                found[name] += stop - start
    return found


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 7), (5, 23), (1, 60)])
def test_every_document_is_held_as_often_as_batches_hold_it(
    corpus: Corpus, tmp_path: Path, first: int, last: int
) -> None:
    run = run_of(corpus, tmp_path, first, last)
    expected = read_by(run, corpus)
    every = {row[3] for row in corpus.rows}
    proof = prove_absence(run, corpus.folder / "index", named(*every))
    held = {each.id: each.tokens for each in proof.held}
    # Tokens that repeat themselves are found in the first document alone that has them.
    alike = {name for name in every if held.get(name, 0) != expected.get(name, 0)}
    assert sum(held[name] for name in alike) == sum(expected[name] for name in alike)
    assert len(alike) <= 4
    assert (proof.steps, proof.instances) == (last - first + 1, (last - first + 1) * SIZE)
    assert proof.tokens == proof.instances * LENGTH == sum(expected.values())
    assert proof.documents == len(held)
    absent = every - held.keys()
    assert prove_absence(run, corpus.folder / "index", named(*absent, "x")).holds
    one = min(held)
    found = prove_absence(run, corpus.folder / "index", named(one))
    assert [each.id for each in found.held] == [one]
    assert not found.holds


def test_documents_without_text_are_known_by_their_ids(corpus: Corpus, tmp_path: Path) -> None:
    run = run_of(corpus, tmp_path, 1, 60)
    index = tmp_path / "index"
    for path in (corpus.folder / "index").rglob("*.parquet"):
        table = pq.read_table(path)
        if path.parent.name == "ids":
            nothing = pa.array([None] * len(table), pa.binary(20))
            table = table.set_column(table.schema.get_field_index("sha1"), "sha1", nothing)
        copy = index / path.relative_to(corpus.folder / "index")
        copy.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, copy)
    name = corpus.rows[3][3]
    assert prove_absence(run, index, named(name)).holds
    by_id = Unwanted(sha1s=(), urls=(), ids={name})
    assert [each.id for each in prove_absence(run, index, by_id).held] == [name]
    # Where the text is known, an id alone says nothing: ids are unique in one corpus.
    assert prove_absence(run, corpus.folder / "index", by_id).holds
    own = Unwanted(sha1s=(), urls=(), ids=(), own_ids={name})
    assert [each.id for each in prove_absence(run, corpus.folder / "index", own).held] == [name]


def test_an_index_with_a_gap_or_of_other_tokens_is_no_proof(corpus: Corpus, tmp_path: Path) -> None:
    run = run_of(corpus, tmp_path, 1, 60)
    folder = corpus.folder / "index" / "places"
    for number, (change, expected) in enumerate(
        (
            (lambda rows: rows[:20] + rows[21:], "a gap between two documents"),
            (lambda rows: rows[:-30], "expected as many: it is the index of other tokens"),
        )
    ):
        index = tmp_path / f"index{number}"
        for path in (corpus.folder / "index").rglob("*.parquet"):
            copy = index / path.relative_to(corpus.folder / "index")
            copy.parent.mkdir(parents=True, exist_ok=True)
            table = pq.read_table(path)
            if path.is_relative_to(folder) and "a/" in str(path.relative_to(folder)):
                rows = change(table.to_pylist())
                table = pa.Table.from_pylist(rows, document_index.PLACE_SCHEMA)
            pq.write_table(table, copy)
        with pytest.raises(InputError, match=expected):
            prove_absence(run, index, named("x"))


def test_batches_of_skipped_steps_are_looked_at(corpus: Corpus, tmp_path: Path) -> None:
    run = run_of(corpus, tmp_path, 1, 3)
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            f'{{"step": {n}, "attempt": 1, "optim/step_skipped": {n == 2:d}, '
            '"train/masked_instances": 0}\n'
            for n in (1, 2, 3)
        )
    )
    skipping = dataclasses.replace(run, log=StepLog(RunFolder(tmp_path), skips=True))
    assert skipping.log.skipped == [2]
    every = {row[3] for row in corpus.rows}
    index = corpus.folder / "index"
    assert prove_absence(skipping, index, named(*every)) == prove_absence(run, index, named(*every))
