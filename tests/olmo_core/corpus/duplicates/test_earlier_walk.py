"""Copies of earlier corpora, against a walk over all documents in their order."""

import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from olmo_core.corpus.duplicates import digest_groups, keys
from tests.olmo_core.corpus.duplicates.earlier_documents import (
    COPIES,
    LONG,
    marks,
    row,
    run,
    words,
    write_packed,
    write_raw,
)


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
