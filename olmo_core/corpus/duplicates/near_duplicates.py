"""Asset `near_duplicates`: which documents are near copies of others; one row for each of them.

After it runs, `clusters.parquet` has the columns `place` and `cluster`, the place of the cluster's
first document (source, path, line), which is a row as well. A place is the number of the document's
shard in the order of paths, times 2³², plus its line, from 1. Documents without a near copy have no
row. What `raw` has excluded takes part, before all other shards: so each is compared with every
document that shares a band, and a cluster that holds one begins with one. Behind it stand the
documents of earlier corpora, which are compared with all others, but not with each other.

Keys of MinHash bands are shuffled; documents that share one are compared by all their shingles.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.corpus.document import excluded_shards, shards, totals
from olmo_core.corpus.duplicates.bands import pair_partition, sign_group
from olmo_core.corpus.duplicates.components import connect
from olmo_core.corpus.duplicates.earlier import EarlierCorpora, write_record
from olmo_core.corpus.duplicates.keys import partition_count, shard_groups
from olmo_core.corpus.duplicates.verify import shingle_candidates, verify_group
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks


@dataclass(frozen=True, kw_only=True)
class NearDuplicateConfig(Bounded):
    """Section `near_duplicates` of corpus.yaml: when two texts are near copies of each other.

    A pair of similarity s is found with probability 1 - (1 - sʳ)ᵇ, r = permutations / bands,
    b = bands: 0.92 at 0.7, 0.998 at 0.8.

    Raises:
        ValueError: values with which no pair, or every pair, would be found.
    """

    # Jaccard similarity of the two sets of shingles
    threshold: float = above(0, at_most=1, default=0.7)
    shingle_words: int = at_least(1, default=5)
    permutations: int = at_least(1, default=120)
    # pairs are compared when one band of permutations / bands values is equal
    bands: int = at_least(1, default=20, at_most=256)
    seed: int = 42
    # folders of Dolma documents that stand before all of these, here and in deduplicated; absolute,
    # ~ and ${VARIABLES} are expanded
    earlier: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.permutations % self.bands:
            raise ValueError(
                f"permutations is {self.permutations}; expected a multiple of bands, {self.bands}"
            )


def make(config: NearDuplicateConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Find pairs of near copies, and what they connect."""
    documents = inputs["raw"] / "documents"
    excluded = excluded_shards(inputs["raw"])
    earlier = EarlierCorpora.of(config.earlier)
    paths = [*excluded, *earlier.files, *shards(documents)]
    of_earlier = range(len(excluded), len(excluded) + len(earlier.files))
    groups, partitions = shard_groups(paths), partition_count(paths)
    plan = f"of {len(groups)} groups and {partitions} partitions"
    reads = f"{read_json(inputs['raw'] / 'result.json')['digest']} {earlier.record['sha256']}"

    def run(name: str, calls: Sequence[Callable[[Path], Any]]) -> tuple[list[Path], list[Any]]:
        """Do the tasks of a step; return their outputs and what they return."""
        folder = job.scratch / name
        tasks = [
            Task(name=f"{name} {n} {plan}", reads=reads, output=folder / f"{n:05d}", call=call)
            for n, call in enumerate(calls)
        ]
        with job.timed(name):
            results = map_tasks(tasks, job, unit=f"{name} tasks")
        return [task.output for task in tasks], results

    signed = {
        "words": config.shingle_words,
        "permutations": config.permutations,
        "bands": config.bands,
        "seed": config.seed,
        "earlier": of_earlier,
    }
    keys, counts = run("sign", [partial(sign_group, g, partitions, **signed) for g in groups])
    sizes = [*chain(*counts)]
    corpora = earlier.table(sizes[of_earlier.start : of_earlier.stop])
    pair = partial(pair_partition, keys, earlier=of_earlier)
    pairs, capped = run("pair", [partial(pair, n, partitions, groups) for n in range(partitions)])
    words, number = config.shingle_words, len(groups)
    sets, _ = run("shingle", [partial(shingle_candidates, pairs, g, number, words) for g in groups])
    links, compared = run(
        "verify", [partial(verify_group, pairs, sets, g, groups, config.threshold) for g in groups]
    )
    task = Task(
        name=f"connect {plan}",
        reads=reads,
        output=job.folder / "clusters.parquet",
        call=partial(connect, links, len(paths), earlier=of_earlier),
    )
    with job.timed("connect"):
        [found] = map_tasks([task], job, unit="graphs")
    write_record(job.folder, earlier.record)
    figures = {
        "documents": sizes,
        "near_duplicates": found["members"],
        "later_copies": found["later"],
        **({"near_earlier": found["near_earlier"]} if corpora else {}),
    }
    table = _sources(documents, figures)
    return Report(
        numbers={
            **totals(table, *figures),
            "excluded": sum(sizes[: len(excluded)]),
            **(
                {"earlier_documents": sum(each["documents"] for each in corpora)} if corpora else {}
            ),
            "clusters": sum(found["sizes"].values()),
            "pairs_compared": sum(each["compared"] for each in compared),
            "pairs_found": sum(each["found"] for each in compared),
            "buckets_cut": sum(each["buckets"] for each in capped),
            "pairs_left_out": sum(each["pairs"] for each in capped),
        },
        tables={
            "sources": table,
            "clusters": [{"documents": size, "clusters": n} for size, n in found["sizes"].items()],
            **({"earlier corpora": corpora} if corpora else {}),
        },
    )


def _sources(documents: Path, figures: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Return the figures of the documents' shards, the last ones, by source."""
    table: dict[str, Counter[str]] = {}
    names = [path.relative_to(documents).parts[0] for path in shards(documents)]
    counts = (each[-len(names) :] for each in figures.values())
    for source, *shard in zip(names, *counts, strict=True):
        row = table.setdefault(source, Counter())
        row.update(dict(zip(figures, shard, strict=True)))
    return [{"source": source, **row} for source, row in table.items()]


if __name__ == "__main__":
    run_job(NearDuplicateConfig, make)
