"""Copies of earlier corpora, worked out by hand and against a walk over all documents."""

import gzip
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from olmo_core.corpus.duplicates import bands, buckets, digest_groups, keys
from olmo_core.corpus.duplicates.deduplicated import DeduplicatedConfig
from olmo_core.corpus.duplicates.earlier import EarlierCorpora, earlier_identity
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import write_json

COPIES = ("text", "near", "url", "id", "earlier")
LONG = "A line that is long enough to be a paragraph that counts, number {}."
NOTHING_HELD_OUT = {"share": 0}
NO_PAIR_IS_MISSED = {"permutations": 128, "bands": 64}


def words(seed: int, changed: int = 0, count: int = 60) -> str:
    """Sixty words; of those with the same seed all but the first are the same."""
    found = [f"w{random.Random(f'{seed} {n}').randrange(10**6)}" for n in range(count)]
    return " ".join([f"c{changed}", *found[1:]] if changed else found)


def write_packed(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines, packed as the file's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(content)
    else:
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def row(name: str, text: str, url: str = "", source: str = "a") -> dict[str, Any]:
    return {"id": name, "text": text, "source": source, "metadata": {"url": url} if url else {}}


def run(corpus: Any, *folders: Path, **config: Any) -> dict[str, dict[str, Any]]:
    """Run the three jobs on what `raw` has left; return their reports."""
    earlier = {"earlier": [str(folder) for folder in folders]}
    configs = {
        "near_duplicates": {**earlier, **NO_PAIR_IS_MISSED},
        "held_out": config.pop("held_out", NOTHING_HELD_OUT),
        "deduplicated": earlier,
    }
    return {name: corpus.run(name, each, **config)["report"] for name, each in configs.items()}


def marks(corpus: Any) -> dict[str, tuple[set[str], float]]:
    """Document id -> what it is a copy by, and the share of it in repeated paragraphs."""
    return {
        name: (
            {key for key in COPIES if found[f"duplicates__{key}"]},
            found["duplicates__paragraphs"][0][2],
        )
        for name, found in corpus.attributes("deduplicated", "duplicates").items()
    }


def write_raw(corpus: Any, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for path, documents in rows.items():
        corpus.write_lines(corpus.folder("raw") / f"{path}.jsonl.gz", documents)
    write_json(corpus.folder("raw") / "result.json", {"digest": "of these texts"})


def test_marks_are_those_worked_out_by_hand(corpus: Any, tmp_path: Path) -> None:
    page, other = "https://example.org/page", "https://example.org/other"
    old, older = tmp_path / "old", tmp_path / "older"
    write_packed(
        old / "documents/a/0.jsonl.zst",
        [row("a/same", words(1), page), row("bare", words(2)), row("x/lone", LONG.format(1))],
    )
    # As Dolma has them: ids without the source, and attributes beside the documents.
    write_packed(old / "attributes/tags/a/0.jsonl.gz", [{"id": "a/same", "attributes": {}}])
    write_packed(older / "deep/0.json.gz", [row("a/twice", words(3)), row("b/twice", words(3))])
    (older / "README").write_text("Not a document.")
    write_raw(
        corpus,
        {
            "documents/a/part-00000": [
                row("a/same", words(4), page),  # the same id and URL, another text
                row("a/bare~0123456789abcdef", words(5)),
                row("a/text", words(1)),
                row("a/text-again", words(1)),
                row("a/near", words(2, changed=1)),
                row("a/own", words(6), other),
                row("a/own-copy", words(6), other),
                row("a/half", f"{LONG.format(1)}\n{LONG.format(2)}"),
            ],
            "documents/b/part-00000": [
                row("b/bare", words(7), source="b"),  # another source's id
                row("b/near", words(3, changed=1), source="b"),
            ],
        },
    )
    reports = run(corpus, old, older)
    half = round((len(LONG.format(1)) + 1) / len(f"{LONG.format(1)}\n{LONG.format(2)}"), 6)
    assert marks(corpus) == {
        "a/same": ({"url", "id", "earlier"}, 0),
        "a/bare~0123456789abcdef": ({"id", "earlier"}, 0),
        "a/text": ({"text", "near", "earlier"}, 1),
        "a/text-again": ({"text", "near", "earlier"}, 1),
        "a/near": ({"near", "earlier"}, 0),
        "a/own": (set(), 0),
        "a/own-copy": ({"text", "near", "url"}, 1),
        "a/half": (set(), half),
        "b/bare": (set(), 0),
        "b/near": ({"near", "earlier"}, 0),
    }
    tables = {name: report["tables"] for name, report in reports.items()}
    figures = {each["source"]: each for each in tables["deduplicated"]["sources"]}
    assert {name: each["copies_of_earlier"] for name, each in figures.items()} == {"a": 5, "b": 1}
    assert [figures[name]["documents"] for name in "ab"] == [8, 2]
    near = {each["source"]: each["near_earlier"] for each in tables["near_duplicates"]["sources"]}
    assert near == {"a": 3, "b": 1}
    numbers = reports["near_duplicates"]["numbers"]
    assert (numbers["documents"], numbers["earlier_documents"]) == (10, 5)
    assert numbers["near_earlier"] == 4
    assert reports["deduplicated"]["numbers"]["copies_of_earlier"] == 6
    assert reports["held_out"]["numbers"]["documents"] == 10
    listed = tables["near_duplicates"]["earlier corpora"]
    assert [(each["files"], each["documents"]) for each in listed] == [(1, 3), (1, 2)]
    assert listed[0]["left_out"] == "1 attributes beside Dolma documents (files)"
    samples = reports["deduplicated"]["samples"]["copies of earlier corpora"]
    assert [sample.split("\n")[0] for sample in samples[:2]] == [
        "a/same",
        "a/bare~0123456789abcdef",
    ]


def test_a_recipe_without_earlier_corpora_says_nothing_of_them(corpus: Any) -> None:
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1)), row("a/2", words(1))]})
    reports = run(corpus)
    [_, second] = corpus.attributes("deduplicated", "duplicates").values()
    assert "duplicates__earlier" not in second
    assert second["duplicates__near"]
    for name, report in reports.items():
        assert "earlier" not in json.dumps(report), name
        assert not (corpus.folder(name) / "earlier.json").exists()


class Truth:
    """Documents in the order in which they stand, each compared with every one before it."""

    def __init__(self, **parts: list[dict[str, Any]]) -> None:
        self.rows = [each for part in parts.values() for each in part]
        kinds = [name for name, part in parts.items() for _ in part]
        self.own = [number for number, kind in enumerate(kinds) if kind == "own"]
        self.earlier = {number for number, kind in enumerate(kinds) if kind == "earlier"}
        self.excluded = {number for number, kind in enumerate(kinds) if kind == "excluded"}
        self.first = [*range(len(self.rows))]
        texts = [each["text"].lower().split() for each in self.rows]
        sets = [{" ".join(each[n : n + 5]) for n in range(len(each) - 4)} for each in texts]
        for a, b in combinations(range(len(self.rows)), 2):
            if b in self.earlier:  # is compared with nothing that stands before it
                continue
            if len(sets[a] & sets[b]) >= 0.7 * len(sets[a] | sets[b]):
                least, most = sorted((self.first[a], self.first[b]))
                self.first = [least if at == most else at for at in self.first]

    def before(self, number: int, left: Sequence[int]) -> Iterator[int]:
        """Yield what stands before a document: earlier corpora, and what is left of its own."""
        yield from sorted(self.earlier)
        yield from (each for each in left if each < number)

    def copied(self, number: int, left: Sequence[int]) -> set[str]:
        found: set[str] = set()
        one = self.rows[number]
        for each in self.before(number, left):
            other = self.rows[each]
            by = {"text"} if one["text"] == other["text"] else set[str]()
            by |= {"near"} if self.first[number] == self.first[each] else set()
            by |= {"url"} if one["metadata"] == other["metadata"] else set()
            by |= {"id"} if original(one) == original(other) else set()
            found |= by | ({"earlier"} if by and each in self.earlier else set())
        return found

    def repeated(self, number: int, left: Sequence[int]) -> float:
        seen = {line for each in self.before(number, left) for line in self.lines(each)}
        found = -(self.lines(number)[-1] in seen)  # no line break ends the text
        for line in self.lines(number):
            if len(line.encode()) >= 40 and line in seen:
                found += len(line) + 1
            seen.add(line)
        return found / len(self.rows[number]["text"])

    def lines(self, number: int) -> list[str]:
        return self.rows[number]["text"].split("\n")


def original(document: Mapping[str, Any]) -> str:
    """The id before it was made unique, with the source as `raw` writes it."""
    name = re.sub("~[0-9a-f]{16}$", "", document["id"])
    source = document["source"]
    return name if name.startswith(f"{source}/") else f"{source}/{name}"


def draw(noise: random.Random, source: str, count: int, label: str) -> list[dict[str, Any]]:
    """Documents of which many are copies of some kind, of each other and of other calls'."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        lines = [words(noise.randrange(60), noise.randrange(4))]
        lines += [LONG.format(noise.randrange(200))] * (noise.random() < 0.5)
        again = noise.random() < 0.3
        name = f"{source}/same{noise.randrange(30)}" if again else f"{source}/{label}{number}"
        mark = f"~{noise.getrandbits(64):016x}" if again and label != "old" else ""
        bare = label == "old" and noise.random() < 0.5
        name = name.removeprefix(f"{source}/") if bare else name + mark
        url = f"u{noise.randrange(40)}" if noise.random() < 0.5 else f"{label}{source}{number}"
        rows.append(row(name, "\n".join(lines), url, source))
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_marks_are_those_of_a_walk_over_all_documents(
    corpus: Any, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut small, with documents that are excluded and some that are held out."""
    monkeypatch.setattr(keys, "GROUP_SHARDS", 2)
    monkeypatch.setattr(keys, "PARTITION_BYTES", 3_000)
    monkeypatch.setattr(digest_groups, "BATCH_ROWS", 5)
    noise = random.Random(seed)
    excluded = draw(noise, "a", 2, "gone")
    old = [draw(noise, source, 12, "old") for source in "aab"]
    own = {
        f"{source}/part-0000{n}": draw(noise, source, 25, f"n{n}")
        for source in "ab"
        for n in (0, 1)
    }
    write_raw(
        corpus,
        {"excluded/a/part-00000": excluded}
        | {f"documents/{path}": rows for path, rows in own.items()},
    )
    write_packed(tmp_path / "old" / "x.jsonl.zst", old[0])
    write_packed(tmp_path / "old" / "y.jsonl", old[1])
    write_packed(tmp_path / "older" / "z.json.gz", old[2])
    held = {"share": 0.05, "min_documents": 2, "max_cluster_share": 0.5}
    folders = (tmp_path / "old", tmp_path / "older")
    reports = run(corpus, *folders, held_out=held, processes=1)
    truth = Truth(excluded=excluded, earlier=[*chain(*old)], own=[*chain(*own.values())])

    names = {truth.rows[number]["id"]: number for number in truth.own}
    left = [names[document["id"]] for document in corpus.documents("held_out")]
    gone = {
        names[each["id"]]: each["role"]
        for each in corpus.read_lines(corpus.folder("held_out") / "held_out.jsonl.gz")
    }
    assert sorted([*left, *gone]) == truth.own
    near_excluded = {n for n in truth.own if truth.first[n] in truth.excluded}
    assert {n for n, role in gone.items() if role == "near excluded"} == near_excluded
    # A cluster that an earlier corpus has documents of is never held out.
    assert len(gone) > len(near_excluded)
    assert not any(truth.first[n] in truth.earlier for n in gone)

    found = marks(corpus)
    expected = {number: truth.copied(number, left) for number in left}
    assert {number: found[truth.rows[number]["id"]][0] for number in left} == expected
    for number in left:
        share = found[truth.rows[number]["id"]][1]
        assert share == pytest.approx(truth.repeated(number, left), abs=1e-6)
    counts = Counter(kind for kinds in expected.values() for kind in kinds)
    assert all(counts[kind] > 3 for kind in COPIES)
    numbers = reports["deduplicated"]["numbers"]
    assert numbers["copies_of_earlier"] == counts["earlier"] < len(left)
    assert numbers["documents"] == len(left)
    near = sum(truth.first[n] in truth.earlier for n in truth.own)
    assert reports["near_duplicates"]["numbers"]["near_earlier"] == near


def test_near_copies_of_excluded_documents_leave_though_an_earlier_corpus_has_them(
    corpus: Any, tmp_path: Path
) -> None:
    write_raw(
        corpus,
        {
            "excluded/a/part-00000": [row("a/gone", words(1)), row("a/gone2", words(4))],
            "documents/a/part-00000": [
                row("a/same", words(1, changed=1)),  # the words of one of the earlier
                row("a/near", words(4, changed=2)),
                row("a/stays", words(2)),
                row("a/copy", words(3)),
            ],
        },
    )
    earlier = [words(1, changed=1), words(4, changed=3), words(3, changed=1)]
    write_packed(tmp_path / "old" / "0.jsonl", [row(f"a/{n}", e) for n, e in enumerate(earlier)])
    reports = run(corpus, tmp_path / "old")
    assert reports["held_out"]["numbers"]["near_excluded"] == 2
    assert marks(corpus) == {"a/stays": (set(), 0), "a/copy": ({"near", "earlier"}, 0)}


def test_two_processes_write_the_same_bytes(corpus: Any, tmp_path: Path) -> None:
    noise = random.Random(7)
    own = {f"documents/a/part-0000{n}": draw(noise, "a", 40, f"n{n}") for n in range(3)}
    for number in range(3):
        write_packed(tmp_path / "old" / f"{number}.jsonl.gz", draw(noise, "a", 20, "old"))
    write_raw(corpus, own)
    found: list[dict[str, bytes]] = []
    for processes in (1, 2):
        again = type(corpus)(tmp_path / str(processes))
        shutil.copytree(corpus.folder("raw"), again.folder("raw"))
        run(again, tmp_path / "old", processes=processes)
        folders = [again.folder(name) for name in ("near_duplicates", "held_out", "deduplicated")]
        found.append(
            {
                f"{folder.parent.name}/{path.relative_to(folder)}": path.read_bytes()
                for folder in folders
                for path in sorted(folder.rglob("*"))
                if path.suffix in (".gz", ".parquet") or path.name == "earlier.json"
            }
        )
    assert found[0] == found[1]
    assert {name.split("/")[0] for name in found[0]} == {
        "near_duplicates",
        "held_out",
        "deduplicated",
    }


def test_what_buckets_leave_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many earlier documents as own ones are compared with each, and none of them is a later."""
    monkeypatch.setattr(buckets, "COMPARED", 3)
    noise = random.Random(0)
    # Of 8 shards two are of earlier corpora, behind one of excluded documents.
    places = [keys.place(shard, line) for shard in range(8) for line in range(1, 9)]
    members_of = {key: sorted(noise.sample(places, noise.randrange(1, 40))) for key in range(1, 9)}
    rows = [(key, each, each, 1) for key, found in members_of.items() for each in found]
    columns = dict(zip(bands.BANDS, np.array(rows, np.uint64).T, strict=True))
    with keys.PartitionedFile(tmp_path / "keys", bands.BANDS, 1) as out:
        out.write(columns, np.zeros(len(rows), np.int64))
    groups = [keys.Group(number=0, first=0, paths=())]
    earlier = range(1, 3)
    found = bands.pair_partition(
        [tmp_path / "keys"], 0, 1, groups, tmp_path / "out", earlier=earlier
    )
    expected: set[tuple[int, int]] = set()
    left_out: Counter[int] = Counter()
    for key, members in members_of.items():
        of_earlier = [each for each in members if each >> 32 in earlier]
        own = [each for each in members if each >> 32 not in earlier]
        for later in own:
            for first in (each for each in members if each < later):
                if first in of_earlier[:3] or first in own[:3]:
                    expected.add((first, later))
                else:
                    left_out[key] += 1
    table = ipc.open_file(tmp_path / "out" / "pairs.arrow").read_all().to_pydict()
    assert set(zip(table["first"], table["later"], strict=True)) == expected
    assert found == {"buckets": len(left_out), "pairs": left_out.total()}
    assert len(left_out) > 3


def test_where_a_folder_lies_is_no_part_of_its_identity(tmp_path: Path) -> None:
    write_packed(tmp_path / "old" / "a" / "0.jsonl", [row("a/1", words(1))])
    before = earlier_identity([str(tmp_path / "old")])
    shutil.move(tmp_path / "old", tmp_path / "moved")
    assert earlier_identity([str(tmp_path / "moved")]) == before
    write_packed(tmp_path / "moved" / "a" / "0.jsonl", [row("a/1", words(2))])
    assert earlier_identity([str(tmp_path / "moved")]) != before
    assert earlier_identity([]) == {"earlier": []}


def test_folders_without_documents_are_refused(corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("Not JSON lines.")
    for folder in ("missing", "empty", "${NOT_SET}/x", "relative", ""):
        named = str(tmp_path / folder) if folder in ("missing", "empty") else folder
        with pytest.raises(ConfigError, match=r"near_duplicates: earlier: .* existing folder"):
            EarlierCorpora.of([named])
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "none" / "0.jsonl.gz", [])
    with pytest.raises(InputError, match=r"earlier: '.*none': no document in 1 files"):
        run(corpus, tmp_path / "none")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"0\.jsonl:2: not valid JSON"),
        ('{"id": "a/2", "source": "a"}', r"0\.jsonl:2: key 'text' is missing"),
        ('{"id": "a/2", "text": "t"}', r"0\.jsonl:2: key 'source' is missing"),
        ('{"id": 2, "text": "t", "source": "a"}', r"0\.jsonl:2: key 'id' is a int"),
        ('{"id": "a/2", "text": " ", "source": "a"}', r"0\.jsonl:2: empty document"),
    ],
)
def test_a_line_that_is_no_document_is_named_where_it_is_read_first(
    corpus: Any, tmp_path: Path, line: str, message: str
) -> None:
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "old" / "0.jsonl", [row("a/1", words(1))])
    with (tmp_path / "old" / "0.jsonl").open("a") as out:
        out.write(f"{line}\n")
    with pytest.raises(InputError, match=message):
        corpus.run("near_duplicates", {"earlier": [str(tmp_path / "old")]}, processes=1)


def test_files_that_have_changed_since_places_counted_them_are_refused(
    corpus: Any, tmp_path: Path
) -> None:
    old = {"earlier": [str(tmp_path / "old")]}
    write_raw(corpus, {"documents/a/part-00000": [row("a/1", words(1))]})
    write_packed(tmp_path / "old" / "1.jsonl", [row("a/1", words(1))])
    corpus.run("near_duplicates", old)
    corpus.run("held_out", NOTHING_HELD_OUT)
    with pytest.raises(InputError, match=r"1 files of earlier corpora, and \[\] now hold 0 files"):
        corpus.run("deduplicated", {})
    write_packed(tmp_path / "old" / "0.jsonl", [row("a/2", words(2))])
    with pytest.raises(InputError, match="now hold 2 files, or others; expected the same files"):
        corpus.run("deduplicated", old)


def test_the_toolkits_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine is 'dolma', which compares with no earlier corp"):
        DeduplicatedConfig(engine="dolma", earlier=("/old",))


def test_a_domain_without_documents_of_its_own_says_why(corpus: Any, tmp_path: Path) -> None:
    rows = [row(f"a/{n}", words(n)) for n in range(20)]
    write_raw(corpus, {"documents/a/part-00000": rows})
    write_packed(tmp_path / "old" / "0.jsonl", rows[:18])
    with pytest.raises(
        InputError, match=r"yields 2 to score .* no near copy of an earlier corpus's"
    ):
        run(corpus, tmp_path / "old", held_out={"share": 0.5, "max_cluster_share": 0.5})
