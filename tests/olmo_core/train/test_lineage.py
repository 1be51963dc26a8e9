"""Lineage of real runs: what each step says that it saw is what training got, to the letter.

The oracle is the tokens of every batch as training got them, noted by the run itself, and searched
for in the documents; it knows neither of orders nor of windows.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmo_core.errors import InputError
from olmo_core.lineage.absence import Proof, Unwanted, prove_absence
from olmo_core.lineage.batch import documents_of_step
from olmo_core.lineage.coverage import Coverage
from olmo_core.lineage.run import TrainingRun, open_run
from olmo_core.lineage.visits import steps_of_document
from olmo_core.run.folder import RunFolder
from tests.olmo_core.documents import Corpus, Found, sha1_of, write_corpus

Train = Callable[..., int]
KILLED, STOPPED = -9, 4
SIZE, STEPS = 24, 30  # ten steps are an epoch


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def data(corpus: Corpus) -> list[str]:
    """The overrides that make a run read the corpus: three epochs, masked instances."""
    return [
        f"core.manifest={corpus.manifest}",
        f"core.roots={{tokens: {corpus.folder}}}",
        "data.paths=null",
        "data.instance_filter={repetition_max_count: 16}",
        f"global_train_batch_size={SIZE}",
        "device_train_microbatch_size=12",
        f"max_duration={STEPS}",
        f"stop_at={STEPS}",
    ]


def opened(folder: Path, corpus: Corpus) -> TrainingRun:
    return open_run(folder, manifest=corpus.manifest, tokens=corpus.folder)


def noted(folder: Path) -> dict[int, list[tuple[np.ndarray, bool]]]:
    """The instances of each step as they were last taken, in order, and which were masked."""
    of_ranks: dict[int, dict[int, list[tuple[np.ndarray, bool]]]] = {}
    for line in (folder / "instances.jsonl").read_text().splitlines():
        row = json.loads(line)
        pairs = zip(row["tokens"], row["masked"], strict=True)
        ranks = of_ranks.setdefault(row["step"], {})
        ranks[row["rank"]] = [(np.array(ids), masked) for ids, masked in pairs]
    return {
        step: [ranks[number % len(ranks)][number // len(ranks)] for number in range(SIZE)]
        for step, ranks in of_ranks.items()
    }


def require_traced(folder: Path, corpus: Corpus, *, first: int = 1, ranks: int | None = 1) -> None:
    """Compare every step and every document of a run with what training got."""
    run, index = opened(folder, corpus), corpus.index
    got = noted(folder)
    assert sorted(got) == list(range(first, run.last_step + 1))
    seen: dict[str, list[tuple[int, int, bool, Found]]] = {}
    for step, instances in got.items():
        traced = documents_of_step(run, index, step)
        assert traced.ranks == ranks
        for number, (instance, (ids, masked)) in enumerate(
            zip(traced.instances, instances, strict=True)
        ):
            found = [(each.document.id, each.start, each.stop) for each in instance.pieces]
            assert [each.offset for each in instance.pieces] == list(
                np.cumsum([0, *(stop - start for _, start, stop in found)])[:-1]
            )
            same = corpus.search(ids)
            # within one document that repeats itself, its tokens may be others of the same ids
            assert found == same or [found[0][0]] == [name for name, *_ in same], (step, number)
            assert (instance.instance, instance.masked) == (number, masked)
            assert instance.rank == (None if ranks is None else number % ranks)
            for piece in found:
                seen.setdefault(piece[0], []).append((step, number, masked, piece))
    assert any(masked for each in seen.values() for *_, masked, _ in each)
    trained: dict[str, list[list[int]]] = {}
    last = 0
    for file, start, end, doc_id, *_ in corpus.rows:
        [document] = [
            each for each in index.of_id(doc_id) if (each.file, each.start) == (file, start)
        ]
        visits = steps_of_document(run, document).visits
        answer = [
            (each.step, each.instance, each.masked, (doc_id, each.start, each.stop))
            for each in visits
        ]
        assert answer == sorted(seen.get(doc_id, [])), (doc_id, end)
        last = (first + run.last_step) // 2
        trained.setdefault(file, []).append(
            [sum(v.tokens for v in visits if v.step <= s and not v.skipped)
             for s in (last, run.last_step)]
        )  # fmt: skip
    for number, up_to in enumerate((last, run.last_step)):
        coverage = Coverage(run, up_to)
        for file, counts in trained.items():
            rows = sorted(row for row in corpus.rows if row[0] == file)
            edges = np.array([0, *(end for _, _, end, *_ in rows)])
            assert coverage.of(file, edges).tolist() == [count[number] for count in counts]
    require_proven(
        run, corpus, {name: sum(b - a for *_, (_, a, b) in at) for name, at in seen.items()}
    )
    for step in (first - 1, run.last_step + 1):
        with pytest.raises(InputError, match=rf"step {step}: .*{first} to {run.last_step}"):
            documents_of_step(run, index, step)


def require_proven(run: TrainingRun, corpus: Corpus, tokens: dict[str, int]) -> None:
    """Compare what a proof says of every document with the tokens of it that training got."""

    def proof(*ids: str) -> Proof:
        unwanted = Unwanted(sha1s={sha1_of(name) for name in ids}, urls=(), ids=())
        return prove_absence(run, corpus.folder / "index", unwanted)

    every = {doc_id for _, _, _, doc_id, *_ in corpus.rows}
    found = proof(*every)
    held: Counter[str] = Counter()
    for each in found.held:
        held[each.id] += each.tokens
    assert held == tokens
    assert (found.steps, found.instances) == (
        run.last_step - run.first_step + 1,
        found.steps * SIZE,
    )
    assert found.tokens == sum(tokens.values())
    assert not found.holds
    unread = every - tokens.keys()
    assert proof(*unread, "no document").holds
    assert proof(*unread).documents >= len(tokens)


def test_a_run_that_was_stopped_killed_and_resumed(
    train: Train, corpus: Corpus, data: list[str], tmp_path: Path
) -> None:
    """Three attempts over three epochs; of steps that were taken again the last time counts.

    The first attempt makes ten steps more after its last checkpoint, and skips one of these.
    """
    skips = [*data, "core.skip_step.window=6"]
    note, spike = "note instances", "spike in call 9"
    run = tmp_path / "run"
    assert train("run", *skips, moment=f"{note} + {spike} + SIGTERM in step 6") == STOPPED
    unfinished = opened(run, corpus)
    assert not unfinished.finished
    assert unfinished.last_step == max(noted(run)) == 16
    assert documents_of_step(unfinished, corpus.index, 9).skipped
    assert train("run", *skips, moment=f"{note} + kill: second step") == KILLED
    assert train("run", *skips, moment=f"{note} + {spike}") == 0
    require_traced(run, corpus, ranks=None)
    traced = opened(run, corpus)
    steps = [documents_of_step(traced, corpus.index, step) for step in range(1, STEPS + 1)]
    rows = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["step"]] = row
    assert [each.attempt for each in steps] == [rows[each.step]["attempt"] for each in steps]
    skipped = [each.step for each in steps if each.skipped]
    assert skipped == [step for step, row in rows.items() if row["optim/step_skipped"]]
    assert 15 in skipped
    assert 9 not in skipped
    # what a skipped step read, no weight has learned
    document = steps[14].instances[0].pieces[0].document
    found = steps_of_document(traced, document)
    assert found.trained_tokens() == sum(
        visit.tokens for visit in found.visits if visit.step not in skipped and not visit.masked
    )
    assert found.trained_tokens() < sum(visit.tokens for visit in found.visits)
    assert found.trained_tokens(14) == sum(
        visit.tokens for visit in found.visits if visit.step <= 14 and visit.trained
    )


def test_a_run_that_goes_on_from_another_with_another_batch_size(
    train: Train, corpus: Corpus, data: list[str], tmp_path: Path
) -> None:
    """Its steps count from its parent's last one, and its data from where that stood."""
    smaller = [*data, "global_train_batch_size=12"]
    assert train("parent", *smaller, "stop_at=7", "max_duration=7") == 0
    assert train("run", *data, f"load_path={tmp_path / 'parent'}", moment="note instances") == 0
    require_traced(tmp_path / "run", corpus, first=8)
    order = RunFolder(tmp_path / "run").read_result()["report"]["data"]["order"]
    assert order["origin"]["instance"] == 7 * 12


@pytest.mark.slow
def test_a_run_on_two_ranks_in_olmos_order(
    ranks: Callable[..., list[int | None]], corpus: Corpus, data: list[str], tmp_path: Path
) -> None:
    assert ranks("run", 2, *data, "core.order=olmo", moment="note instances") == [0, 0]
    require_traced(tmp_path / "run", corpus, ranks=2)


def test_other_data_and_a_run_without_a_checkpoint_are_refused(
    train: Train, corpus: Corpus, data: list[str], tmp_path: Path
) -> None:
    short = [*data, "stop_at=2"]
    assert train("run", *short) == 0
    other = json.loads(corpus.manifest.read_text())
    other["streams"][0]["ranges"][0]["start"] = 32
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match=r"order of windows .*cannot be computed from other data"):
        open_run(tmp_path / "run", manifest=tmp_path / "other.json", tokens=corpus.folder)
    assert train("killed", *short, moment="kill: second step") == KILLED
    with pytest.raises(InputError, match="has no checkpoint yet"):
        opened(tmp_path / "killed", corpus)
