"""Lineage of the recipe `tiny`: every step and document, the text of each, and both commands."""

import contextlib
import gzip
import hashlib
import json
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvActivity, ProvDerivation, ProvDocument, ProvEntity

from assets.lineage.answers import trace_document, trace_step
from assets.lineage.place_blocks import find_blocks
from assets.lineage.quotes import QuoteAnswer, index_quotes, open_text, trace_quote
from assets.lineage.runs import Lineage
from assets.lineage.trained_text import trace_text
from benchmarks.trace import check
from olmo_core.data.document_index import DocumentSpan
from olmo_core.lineage.batch import documents_of_step
from pipelines.cli.trace_document import quote_entry
from tests.integration.conftest import World
from tests.olmo_core.lineage.quotes.matches import longest

TRAINED = ["stage1", "stage2_ingredient1", "stage2_ingredient2"]


@pytest.fixture
def root(tiny: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OLMO_ROOT", "OLMO_RECIPES"):
        monkeypatch.setenv(name, tiny.environment[name])
    return tiny.root


@pytest.mark.slow
def test_every_step_and_document_is_what_the_loader_gives(root: Path) -> None:
    found = check("tiny", documents=None)
    assert [run.partition("/")[0] for run in found["runs"]] == TRAINED
    assert found["steps"] == 40 + 10 + 10
    assert 0 < found["of_these_seen"] < found["documents"]


def text_of(tiny: World, entry: dict[str, Any]) -> str:
    with gzip.open(tiny.path("filtered") / entry["path"], "rt", encoding="utf-8") as lines:
        document = json.loads(next(line for n, line in enumerate(lines, 1) if n == entry["line"]))
    assert document["id"] == entry["id"]
    return document["text"]


def test_the_commands(tiny: World) -> None:
    def asked(*arguments: str) -> Any:
        done = tiny.olmo("trace", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    step = asked("step", "tiny", "10", "--stage", "stage2_ingredient2", "--text")
    assert (step["run"], step["step"], step["ranks"]) == ("stage2_ingredient2", 10, 1)
    for instance in step["instances"]:
        entries = instance["documents"]
        assert sum(stop - start for start, stop in (e["tokens"] for e in entries)) == 128
        for entry in entries:
            first, last = entry["characters"]
            assert text_of(tiny, entry)[first:last] == entry["text"]
    entry = step["instances"][3]["documents"][0]
    sha1 = hashlib.sha1(text_of(tiny, entry).encode()).hexdigest()
    by_id, by_text = (asked("doc", "tiny", query) for query in (entry["id"], sha1))
    assert by_id["documents"] == by_text["documents"]
    [document] = by_id["documents"]
    mixes = {each["mix"].partition("/")[0]: each for each in document["mixes"]}
    tokens = entry["document_tokens"]
    assert {name: (m["ranges"], m["tokens"]) for name, m in mixes.items()} == {
        "stage1_mix": (1, tokens),
        "stage2_mix": (2, 2 * tokens),
    }
    [run] = [run for run in document["runs"] if run["run"] == "stage2_ingredient2"]
    assert run["mix_tokens"] == 2 * tokens
    assert {"step": 10, "instance": 3, "tokens": entry["tokens"]}.items() <= next(
        visit for visit in run["steps"] if (visit["step"], visit["instance"]) == (10, 3)
    ).items()
    assert run["first_checkpoint"] == "stage2_ingredient2@step10"
    models = {model["model"]: model for model in document["models"]}
    own, stage1 = (
        sum(v["tokens"][1] - v["tokens"][0] for r in document["runs"] for v in r["steps"]
            if r["run"] == name)
        for name in ("stage2_ingredient2", "stage1")
    )  # fmt: skip
    [ingredient] = models["stage2_ingredient2"]["ingredients"]
    assert ingredient["trained_tokens"] == own + stage1  # what its parent saw, it has seen
    soup = {each["run"].partition("/")[0]: each for each in models["soup"]["ingredients"]}
    assert set(soup) == set(TRAINED[1:])
    assert soup["stage2_ingredient2"]["trained_tokens"] == own + stage1
    assert models["soup"]["revisions"] == ["main"]
    said = tiny.olmo("trace", "doc", "tiny", entry["id"]).stdout
    assert entry["id"] in said
    assert "stage2_ingredient2@step10" in said


def test_what_index_builds_changes_how_fast_answers_come_and_not_what_they_are(
    tiny: World, root: Path
) -> None:
    with gzip.open(sorted((tiny.path("filtered") / "documents").rglob("*.gz"))[0], "rt") as lines:
        documents = [json.loads(line) for line in lines]
    chosen = next(each for each in documents if len(each["text"]) > 900)
    index = tiny.root / "cache" / "quotes" / tiny.result("tokens")["digest"]
    places = root / "cache" / "places" / tiny.result("documents")["digest"]
    assert not index.exists()
    assert not places.exists()
    steps = [trace_step(Lineage("tiny"), step).pieces for step in (1, 20, 40)]

    def asked(quote: str) -> Any:
        done = tiny.olmo("trace", "doc", "tiny", quote, "--json", "--limit", "1000")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    quotes = [chosen["text"][:200], chosen["text"][300:700], chosen["text"][-150:]]
    scanned = [asked(quote) for quote in quotes]
    assert all("no quotes index: all tokens are read; olmo trace index" in e for _, e in scanned)
    made = tiny.olmo("trace", "index", "tiny")
    assert made.returncode == 0, made.stderr
    assert (index / "index.json").is_file()
    assert str(index) in made.stdout
    assert str(places) in made.stdout
    assert find_blocks(root, tiny.path("documents")) == places
    assert [trace_step(Lineage("tiny"), step).pieces for step in (1, 20, 40)] == steps
    for quote, (answer, _) in zip(quotes, scanned, strict=True):
        again, said = asked(quote)
        assert again == answer
        assert "no quotes index" not in said
        [found] = [each for each in again["documents"] if each["id"] == chosen["id"]]
        assert found["places"][0]["quoted"]
        whole = sum(quote in each["text"] for each in documents)
        assert again["quote"]["documents"] >= whole >= 1
    shown = tiny.olmo("trace", "doc", "tiny", quotes[1], "--limit", "1").stdout
    assert shown.startswith("Word for word in ")
    assert "Runs" in shown


def test_of_a_common_quote_the_first_documents_are_found_and_the_rest_counted(
    tiny: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmo_core.lineage.quotes.find._AT_ONCE", 1 << 9)
    lineage = Lineage("tiny")
    index_quotes(lineage, lambda what: contextlib.nullcontext(lambda done, total: None))
    with gzip.open(sorted((tiny.path("filtered") / "documents").rglob("*.gz"))[0], "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    of_each = Counter(line for text in texts for line in {*text.split("\n")} if len(line) >= 64)
    [(quote, whole)] = of_each.most_common(1)
    assert whole > 5

    def asked(most: int) -> QuoteAnswer:
        return trace_quote(
            lineage,
            quote,
            limit=2,
            most=most,
            shown=lambda what: contextlib.nullcontext(lambda done, total: None),
            say=pytest.fail,
        )

    some, every = asked(1), asked(10**6)
    assert every.unread == 0
    assert every.documents >= whole
    assert 1 <= some.documents < every.documents
    assert every.indexed == some.indexed > some.unread > 0
    assert asked(some.indexed).unread == 0
    assert some.answers[0].documents == every.answers[0].documents
    entry = quote_entry(lineage, quote, some)
    counts = {"documents": some.documents, "places": some.places, "unread": some.unread}
    assert entry["quote"] == counts
    shown = tiny.olmo("trace", "doc", "tiny", quote, "--limit", "1")
    assert f"Word for word in {every.documents} documents, {every.places} times" in shown.stdout


def test_a_text_is_traced_to_the_steps_that_were_trained_on_it(tiny: World, root: Path) -> None:
    """Against the tokens that each step read: all of a span's, and no longer span has all."""
    lineage = Lineage("tiny")
    index_quotes(lineage, lambda what: contextlib.nullcontext(lambda done, total: None))
    with gzip.open(sorted((tiny.path("filtered") / "documents").rglob("*.gz"))[0], "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    long = [text for text in texts if len(text) > 600][:6]
    text = " … of its own ".join(each[40 * n : 40 * n + 500] for n, each in enumerate(long))
    run, documents = lineage.run("stage1"), lineage.index_folder(lineage.runs("stage1")[0])
    read: dict[DocumentSpan, set[int]] = {}  # the tokens of each document that steps learnt from
    for step in range(1, 21):
        traced = documents_of_step(run, lineage.open_index(documents), step)
        for instance in traced.instances:
            for piece in instance.pieces if not instance.masked and not traced.skipped else ():
                read.setdefault(piece.document, set()).update(range(piece.start, piece.stop))
    tokens = open_text(lineage, documents)
    expected: set[tuple[int, int]] = set()
    content = tokens.table.of_text(text)
    for document, seen in read.items():
        held, edges = tokens.read(document.file, document.start, document.end)
        for first, last in stretches(sorted(seen)):
            part = held[edges[first] : edges[last]].tobytes()
            expected |= longest(content, part)
    answer = trace_text(lineage, text, "stage1@step20", limit=50, most=100_000)
    found = [(span.first, span.last) for span in answer.spans]
    assert expected
    for first, last in expected:
        assert any(a <= first and last <= b for a, b in found), content[first:last]
    for span in answer.spans:
        assert span.documents
        for each in span.documents:
            known = each.document
            key = DocumentSpan(**{f.name: getattr(known, f.name) for f in fields(DocumentSpan)})
            assert set(range(each.start, each.stop)) <= read[key]
            steps = {visit.step for _, visit in each.visits}
            assert steps
            assert max(steps) <= 20
            start, stop = known.start + each.start, known.start + each.stop
            assert span.text.encode() in tokens.read(known.file, start, stop)[0].tobytes()
    done = tiny.olmo("trace", "text", "tiny", "-", "--model", "stage1@step20", "--json")
    assert done.returncode == 2
    assert "-: not a text of 64 bytes" in done.stderr


def stretches(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the runs of numbers that follow each other: [first, one after the last)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def test_checkpoints_are_counted_as_their_steps_say(tiny: World, root: Path) -> None:
    """Documents and tokens by source, of stage 1 at step 20 and of the soup, step by step."""
    lineage = Lineage("tiny")

    def seen(stage: str, last: int) -> Counter[str]:
        found: Counter[str] = Counter()
        for step in range(1, last + 1):
            for pieces in trace_step(lineage, step, stage=stage).pieces:
                for each in pieces:
                    found[each.document.id] += each.piece.stop - each.piece.start
        return found

    first = seen("stage1", 20)
    second = seen("stage1", 40) + seen("stage2_ingredient1", 10) + seen("stage2_ingredient2", 10)
    done = tiny.olmo("trace", "checkpoint", "tiny", "stage1@step20", "soup", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [each["run"].partition("/")[0] for each in answer["second"]["trained"]] == TRAINED
    for found, weights in ((first, answer["first"]), (second, answer["second"])):
        of = {each["source"]: each for each in weights["sources"]}
        sources = {name: [id for id in found if id.startswith(f"{name}/")] for name in of}
        assert sum(map(len, sources.values())) == len(found)
        for name, ids in sources.items():
            further = [id for id in ids if id not in first]
            expected = {
                "documents": len(ids),
                "tokens": sum(found[id] for id in ids),
                "further_documents": len(further),
                "further_tokens": sum(found[id] for id in further),
            }
            assert expected.items() >= {k: v for k, v in of[name].items() if k != "source"}.items()
    assert "further_documents" not in answer["first"]["sources"][0]
    assert answer["second"]["masked_instances"] is not None


def test_what_a_rule_drops_is_named(tiny: World, root: Path) -> None:
    """Of each asset that leaves documents out, one."""
    lineage = Lineage("tiny")
    for name in ("filtered", "held_out"):
        folder = tiny.path(name)
        part = "dropped/*/*.gz" if name == "filtered" else "held_out.jsonl.gz"
        with gzip.open(sorted(folder.glob(part))[0], "rt", encoding="utf-8") as lines:
            row = json.loads(next(lines))
        ([answer], untraced) = trace_document(lineage, row["id"])
        assert not untraced
        assert not answer.runs
        [left_out] = answer.left_out
        assert left_out.document.asset == name
        assert not any(any(e.tokens for e in each.values()) for _, each in answer.models)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("step", "tiny", "41"), "step 41: expected 1 to 40, the steps that it has taken"),
        (("step", "tiny", "0"), "step 0: expected 1 to 40"),
        (("step", "tiny", "1", "--stage", "stage2"), "trains no 'stage2'; did you mean 'stage1'?"),
        (("step", "tiny", "1", "--version", "no"), "stage1 has no version 'no'; there: "),
        (("checkpoint", "tiny", "stage1@step41"), "step 41: expected 1 to 40"),
        (("checkpoint", "tiny", "soup@step1"), "a soup has no steps; expected soup"),
        (("checkpoint", "tiny", "stage1@41"), "expected weights as stage1@step300, stage1, "),
        (("doc", "tiny", "no such"), "no document of the id, URL or SHA-1 'no such', neither "),
        (("doc", "tiny", "too short"), "nor is it a text of 64 bytes, about ten words of English"),
        (("doc", "tiny", "no \x1b[31msuch " * 9), "no document in token files holds 'no \\x1b[31m"),
    ],
)
def test_a_mistake_says_what_would_be_right(
    tiny: World, arguments: tuple[str, ...], message: str
) -> None:
    done = tiny.olmo("trace", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stage_that_has_not_run_and_one_of_several_versions(
    tiny: World, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="stage1 has not been run; olmo run tiny --select stage1"):
        trace_step(Lineage("tiny"), 1)
    run = tiny.path("stage1")
    for version in ("0" * 12, "1" * 12):
        copy = tmp_path / "empty" / "tiny" / "stage1" / version
        copy.mkdir(parents=True)
        for name in ("config.yaml", "result.json", "metrics.jsonl"):
            (copy / name).write_bytes((run / name).read_bytes())
    with pytest.raises(ValueError, match="stage1 has 2 versions, none of the recipe as it stands"):
        trace_step(Lineage("tiny"), 1)
    (tmp_path / "empty").rename(shared := tmp_path / "shared")  # a version there can be named too
    monkeypatch.setenv("OLMO_SHARED_ROOTS", str(shared))
    found = Lineage("tiny").chosen("stage1", "1" * 12)
    assert found.path == shared / "tiny" / "stage1" / ("1" * 12)


def test_a_model_is_traced_down_to_the_files_that_it_comes_from(tiny: World) -> None:
    done = tiny.olmo("trace", "model", "tiny", "--json")
    assert done.returncode == 0, done.stderr
    document = ProvDocument.deserialize(content=done.stdout)
    runs = {
        str(next(iter(each.get_attribute("prov:location")))).removeprefix("file://")
        for each in document.get_records(ProvActivity)
    }
    expected, waiting = set[str](), [tiny.path("soup")]
    while waiting:  # by what result.json says alone
        expected.add(str(folder := waiting.pop()))
        inputs = json.loads((folder / "result.json").read_text())["inputs"]
        waiting += [tiny.root / each["path"] for each in inputs.values()]
    assert runs == expected
    raw = [
        entity
        for entity in document.get_records(ProvEntity)
        if str(entity.identifier).startswith(("raw:", "pkg:"))
    ]
    assert raw
    parents = {
        str(each.formal_attributes[1][1])
        for each in document.get_records(ProvDerivation)
        if str(each.formal_attributes[1][1]).startswith("checkpoint:")
    }
    assert parents == {f"checkpoint:tiny/stage1/{tiny.path('stage1').name}@step40"}
    shown = tiny.olmo("trace", "model", "tiny", "stage1@step20")
    assert "step 20 of 40 steps" in shown.stdout
    assert "gone" not in shown.stdout
