"""Synthetic keys of a corpus, as the maps of its passes write them; see `corpus_memory.py`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from olmo_core.corpus.duplicates import (
    bands,
    candidates,
    components,
    digest_groups,
    keys,
    verify,
)
from olmo_core.corpus.duplicates.columns import Array
from olmo_core.corpus.duplicates.marks import COPIES, TEXT

SHARD_DOCUMENTS = 200_000  # 0.5 GB of text, 0.12 GB compressed, as in Dolma
SHARD_BYTES = 120_000_000
AT_A_TIME = 50_000  # documents whose keys are made
BANDS = 20
PARAGRAPHS = 18  # of a document, long enough to count
RUNS = 400  # of words in a document
SOURCES = 7
FAMILY = 1 << 50  # above every document's number


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A corpus of so many keys, and where they lie."""

    folder: Path
    shards: tuple[Path, ...]  # sparse files of a shard's size

    @property
    def documents(self) -> int:
        return len(self.shards) * SHARD_DOCUMENTS

    @property
    def groups(self) -> list[keys.Group]:
        return keys.shard_groups(self.shards)

    @property
    def partitions(self) -> int:
        return keys.partition_count(self.shards)

    def file(self, group: keys.Group) -> Path:
        return self.folder / f"{group.number:05d}"


def mixed(numbers: Array, salt: int) -> Array:
    """Return 64 bits for each number, as a hash would (splitmix64)."""
    values = numbers + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def some_of(group: keys.Group) -> Iterator[tuple[Array, Array]]:
    """Yield the numbers of a group's documents and their places, some at a time."""
    for shard, _ in group.numbered:
        for begin in range(0, SHARD_DOCUMENTS, AT_A_TIME):
            lines = np.arange(begin, begin + AT_A_TIME, dtype=np.uint64)
            places = np.uint64(keys.place(shard, 1)) + lines
            yield np.uint64(shard * SHARD_DOCUMENTS) + lines, places


def write_bands(plan: Plan, group: keys.Group) -> None:
    """Write the bands of documents; those of a family share half, or have the same words."""
    with keys.PartitionedFile(plan.file(group), bands.BANDS, plan.partitions) as out:
        for numbers, places in some_of(group):
            copied = mixed(numbers, 1) % np.uint64(10) < 3
            same = copied & (mixed(numbers, 2) % np.uint64(6) == 0)
            family = np.uint64(FAMILY) + mixed(numbers, 3) % np.uint64(plan.documents // 5)
            key = np.empty((len(numbers), BANDS), np.uint64)
            for band in range(BANDS):
                shared = same | (copied & (mixed(numbers, 100 + band) % np.uint64(2) == 0))
                key[:, band] = mixed(np.where(shared, family, numbers), 200 + band)
            key[mixed(numbers, 4) % np.uint64(1000) == 0, 0] = 1 << 40  # the same few words
            rows = {
                "key": key.ravel(),
                "words": np.repeat(mixed(np.where(same, family, numbers), 5), BANDS),
                "place": np.repeat(places, BANDS),
                "band": np.tile(np.arange(BANDS, dtype=np.uint8), len(numbers)),
            }
            out.write(rows, keys.by_key(rows["key"], plan.partitions))


def write_digests(plan: Plan, group: keys.Group) -> None:
    """Write the digests of texts and paragraphs; three of ten are found again, some very often."""
    common = plan.documents * PARAGRAPHS // 20
    kind = np.array([COPIES[TEXT]] + [0] * PARAGRAPHS, np.uint8)
    with keys.PartitionedFile(plan.file(group), digest_groups.KEYS, plan.partitions) as out:
        for numbers, places in some_of(group):
            of_all = np.repeat(numbers * np.uint64(1 + PARAGRAPHS), 1 + PARAGRAPHS)
            of_all += np.tile(np.arange(1 + PARAGRAPHS, dtype=np.uint64), len(numbers))
            chance = mixed(of_all, 1).astype(np.float64) / 2**64
            drawn = np.uint64(FAMILY) + (common * mixed_share(of_all) ** 3).astype(np.uint64)
            digested = np.where(chance < 0.3, drawn, of_all)
            rows = {
                "key": mixed(digested, 3),
                "low": mixed(digested, 4),
                "place": np.repeat(places, 1 + PARAGRAPHS),
                "kind": np.tile(kind, len(numbers)),
                "characters": np.tile(np.array([0] + [90] * PARAGRAPHS, np.uint32), len(numbers)),
            }
            out.write(rows, keys.by_key(rows["key"], plan.partitions))


def mixed_share(numbers: Array) -> Array:
    """Return a number from 0 to below 1 for each number."""
    return (mixed(numbers, 2) >> np.uint64(11)).astype(np.float64) / 2**53


def write_sets(plan: Plan, group: keys.Group) -> None:
    """Write the runs of words of three documents of ten, each in a pair with an earlier one.

    Of two of them the other one is a near copy, so that all of their runs are compared.
    """
    folder = plan.file(group)
    folder.mkdir()
    groups = plan.groups
    ends, places = [np.zeros(1, np.int64)], list[Array]()
    with (
        (folder / "shingles.bin").open("wb") as out,
        keys.PartitionedFile(folder / "pairs.arrow", bands.PAIRS, len(groups)) as pairs,
    ):
        for numbers, at in some_of(group):
            is_candidate = numbers % np.uint64(10) < 3
            of, place = numbers[is_candidate], at[is_candidate]
            partner = mixed(of, 1) % np.maximum(of, 1) // np.uint64(10) * np.uint64(10)
            text = np.where(of % np.uint64(10) == 0, of, partner)
            runs = text[:, None] * np.uint64(RUNS) + np.arange(RUNS, dtype=np.uint64)
            out.write(np.sort(mixed(runs, 2), axis=1).tobytes())
            ends.append(ends[-1][-1] + np.arange(1, len(of) + 1) * RUNS)
            places.append(place)
            shard, line = np.divmod(partner, np.uint64(SHARD_DOCUMENTS))
            first = (shard << np.uint64(keys.LINE_BITS)) + line + np.uint64(1)
            kept = first < place
            rows = {"first": first[kept], "later": place[kept], "equal": np.zeros(kept.sum(), bool)}
            pairs.write(rows, keys.by_group(rows["first"], groups))
    np.save(folder / "places.npy", np.concatenate(places))
    np.save(folder / "ends.npy", np.concatenate(ends))


def write_links(plan: Plan, group: keys.Group) -> None:
    """Write two links per document: within eight of them, and of one in 16 along chains of 1000."""
    with keys.PartitionedFile(plan.file(group), verify.LINKS, 1) as out:
        for numbers, _ in some_of(group):
            in_chain = (numbers // np.uint64(8000)) % np.uint64(16) == 0
            in_chain &= numbers % np.uint64(8000) >= 8
            near = [numbers ^ (mixed(numbers, salt) % np.uint64(8)) for salt in (1, 2)]
            near[1][in_chain] = numbers[in_chain] - np.uint64(8)
            for other in near:
                places = np.sort(np.stack((scattered(numbers), scattered(other))), axis=0)
                rows = {"first": places[0], "later": places[1]}
                out.write(rows, np.zeros(len(numbers), np.int64))


def scattered(numbers: Array) -> Array:
    """Return a place for each number, another one for another number, in 4096 shards."""
    return numbers * np.uint64(0x9E3779B97F4A7C15) & np.uint64(2**44 - 1)


def write_survey(plan: Plan, group: keys.Group) -> None:
    """Write a row per document, as `survey_group` does, and those of clusters beside them."""
    clusters = plan.file(group).with_suffix(".clusters")
    with (
        keys.table_file(plan.file(group), candidates.DOCUMENTS) as add,
        keys.PartitionedFile(clusters, components.CLUSTERS, 1) as add_cluster,
    ):
        for numbers, places in some_of(group):
            source = f"source-{int(numbers[0]) * SOURCES // plan.documents}"
            add(
                {
                    "place": places,
                    "source": [source] * len(numbers),
                    "text_bytes": 1 + mixed(numbers, 1) % np.uint64(5000),
                    "own_order": mixed(numbers, 2),
                }
            )
            # Of ten documents the first begins a cluster, and two are of one that begins earlier.
            digit = numbers % np.uint64(10)
            first = mixed(numbers, 3) % (numbers // np.uint64(10) + np.uint64(1)) * np.uint64(10)
            first = np.where(digit == 0, numbers, first)
            shard, line = np.divmod(first, np.uint64(SHARD_DOCUMENTS))
            cluster = (shard << np.uint64(keys.LINE_BITS)) + line + np.uint64(1)
            rows = {"place": places[digit < 3], "cluster": cluster[digit < 3]}
            add_cluster.write(rows, np.zeros(len(rows["place"]), np.int64))


def planned(folder: Path, shards: int) -> Plan:
    """Return a plan with sparse files of a shard's size, for its groups and partitions."""
    paths = [folder / "shards" / f"{number:06d}" for number in range(shards)]
    paths[0].parent.mkdir()
    for path in paths:
        path.touch()
        os.truncate(path, SHARD_BYTES)
    (folder / "keys").mkdir()
    return Plan(folder=folder / "keys", shards=tuple(paths))
