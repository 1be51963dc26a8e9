"""Asset `held_out`: the perplexity set, taken out of the raw text by near-duplicate cluster.

After it runs, `paloma/<domain>/val/*.jsonl.gz` hold the perplexity set in Paloma's file format, one
row per document, and `documents/<source>/` what remains for training: no near copy of a held-out
document is among it, nor of one that `raw` has excluded. A domain is a source. With `share: 0`
nothing is held out. `clusters.parquet` has the clusters of near copies among what remains, by the
places that documents have here: behind those of earlier corpora. A document that is a near copy of
one of theirs remains, since a model of an earlier corpus has read it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.corpus.document import ELSEWHERE, Document, excluded_shards, shards, totals
from olmo_core.corpus.duplicates.candidates import Cluster, Member, Survey, survey_group
from olmo_core.corpus.duplicates.earlier import read_record, write_record
from olmo_core.corpus.duplicates.keys import LINE_BITS, place, shard_groups
from olmo_core.corpus.duplicates.parts import write_remaining
from olmo_core.corpus.duplicates.remaining import CLUSTERS_FILE, write_clusters
from olmo_core.corpus.rows import write_rows
from olmo_core.errors import InputError
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

CLUSTERS = 1 << 17  # considered at a time, at most
LEFT = ("scored", "scored_bytes", "set_aside", "near_excluded")  # figures of what leaves training


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig(Bounded):
    """Section `held_out` of corpus.yaml.

    Raises:
        ValueError: a share or bound out of range.
    """

    seed: int = 0  # of the hash that chooses clusters
    share: float = 0.02  # of each domain's documents; 0: nothing is held out
    min_documents: int = at_least(1, default=5)  # scored in each domain, whatever the share
    # scored in each domain; evaluation time grows with it
    max_domain_bytes: int = at_least(1, default=90_000)
    # A cluster that holds more of a source's documents stays in training: a widespread licence
    # would otherwise take most of its source along.
    max_cluster_share: float = above(0, at_most=1, default=0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.share < 1.0:
            raise ValueError(f"share is {self.share}; expected 0 or more, and below 1")


def choose(survey: Survey, sizes: Mapping[str, int], config: HeldOutConfig) -> list[Member]:
    """Choose whole clusters in their order, domain by domain.

    Of each cluster the first document per domain is scored; its near copies are set aside, since
    scoring them again would say nothing new.

    Args:
        survey: Of all documents.
        sizes: Documents of each source.
        config: How many.

    Returns:
        The documents that are held out.
    """
    taken: set[int] = set()
    scored: Counter[str] = Counter()
    scored_bytes: Counter[str] = Counter()
    for domain in sorted(sizes):
        most = wanted(sizes[domain], config)
        if scored[domain] >= most:
            continue
        room = partial(_room, domain, scored_bytes, config)
        for cluster in survey.clusters(domain, room, limit=min(100 + 2 * most, CLUSTERS)):
            if cluster.place in taken or not _fits(cluster, sizes, scored_bytes, config):
                continue
            taken.add(cluster.place)
            scored.update(cluster.first_bytes.keys())
            scored_bytes.update(cluster.first_bytes)
            if scored[domain] >= most:
                break
    return survey.members(taken)


def _room(source: str, scored_bytes: Mapping[str, int], config: HeldOutConfig) -> int:
    """Return how many bytes more may be scored of a source."""
    return config.max_domain_bytes - scored_bytes[source]


def _fits(
    cluster: Cluster,
    sizes: Mapping[str, int],
    scored_bytes: Mapping[str, int],
    config: HeldOutConfig,
) -> bool:
    """Return whether a cluster may leave every source that it has documents of."""
    return all(
        documents <= max(1, config.max_cluster_share * sizes[source])
        and cluster.first_bytes[source] <= _room(source, scored_bytes, config)
        for source, documents in cluster.documents.items()
    )


def wanted(documents: int, config: HeldOutConfig) -> int:
    """Return the number of documents to score of a domain."""
    return max(config.min_documents, round(config.share * documents))


def make(config: HeldOutConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Choose clusters, take them out, write both parts."""
    documents = inputs["raw"] / "documents"
    raw = read_json(inputs["raw"] / "result.json")["digest"]
    clusters = read_json(inputs["near_duplicates"] / "result.json")["digest"]
    excluded, earlier = len(excluded_shards(inputs["raw"])), read_record(inputs["near_duplicates"])
    first = excluded + earlier["files"]  # number of the documents' first shard in places
    groups = shard_groups(shards(documents), first=first)
    tasks = [
        Task(
            name=f"survey {group.number} of {len(groups)}",
            reads=raw,
            output=job.scratch / "survey" / f"{group.number:05d}.parquet",
            call=partial(survey_group, group, documents, config.seed),
        )
        for group in groups
    ]
    with job.timed("survey"):
        counts = [*chain(*map_tasks(tasks, job, unit="groups"))]
    surveys = [task.output for task in tasks]
    with (
        job.timed("choose"),
        Survey(surveys, inputs["near_duplicates"] / CLUSTERS_FILE, job.scratch) as survey,
    ):
        facts = survey.sources()
        sizes = {source: row["documents"] for source, row in facts.items()}
        held = choose(survey, sizes, config) if config.share else []
        held += survey.near_excluded(place(excluded, 0))
    table = _table(facts, held)
    _check(table, config, compares=earlier["files"] > 0)
    with job.timed("write"):
        reads = f"{raw} {clusters}"
        scored = _write(inputs["raw"], first, counts, held, job, reads=reads)
        task = Task(
            name="clusters of what remains",
            reads=reads,
            output=job.folder / CLUSTERS_FILE,
            call=partial(
                write_clusters,
                inputs["near_duplicates"] / CLUSTERS_FILE,
                [member.place for member in held],
                counts,
                excluded,
                earlier=earlier["files"],
            ),
        )
        map_tasks([task], job, unit="files of clusters")
        write_record(job.folder, earlier)
    columns = ("scored", "set_aside", "near_excluded", "remaining", "scored_bytes")
    return Report(
        numbers=totals(table, "documents", *columns, "remaining_bytes", "near_duplicates"),
        tables={"sources": table},
        samples={"held out": [chosen[0].sample() for _, chosen in sorted(scored.items())]},
        data={"domains": sorted(scored)},
    )


def _check(table: Sequence[Mapping[str, Any]], config: HeldOutConfig, *, compares: bool) -> None:
    """Refuse a domain that yields too little to score, or keeps nothing to train on.

    Args:
        table: The figures of each source.
        config: What was asked for.
        compares: There are earlier corpora, of which no near copy is held out.
    """
    near_earlier = " that is no near copy of an earlier corpus's" if compares else ""
    for row in table:
        if config.share and row["scored"] < config.min_documents:
            raise InputError(
                f"held_out: domain {row['source']} has {row['documents']} documents and yields "
                f"{row['scored']} to score within {config.max_domain_bytes} bytes; expected at "
                f"least min_documents = {config.min_documents}: raise max_domain_bytes or "
                "max_cluster_share, lower min_documents, or give the source more text"
                f"{near_earlier}"
            )
        if not row["remaining"]:
            raise InputError(
                f"held_out: all {row['documents']} documents of source {row['source']} would be "
                "held out, and none is left to train on; lower min_documents "
                f"({config.min_documents}) or share ({config.share}; 0 holds nothing out), or give "
                f"the source more text ({row['near_excluded']} are near copies of excluded ones)"
            )


def _write(
    raw: Path,
    first: int,
    counts: Sequence[int],
    held: Sequence[Member],
    job: Job,
    *,
    reads: str,
) -> dict[str, list[Document]]:
    """Write what remains under the files' names, and the scored documents by domain.

    Args:
        raw: The run that holds the shards, and attributes made elsewhere beside some.
        first: Number of the first shard, in places.
        counts: Documents of each; a shard of which none remains is left out.
        held: The documents that are held out.
        job: The run folder.
        reads: Digests of the documents and of their clusters.

    Returns:
        The scored documents, by domain.
    """
    by_shard: dict[int, dict[int, tuple[str, int]]] = defaultdict(dict)
    for member in held:
        shard, line = divmod(member.place, 1 << LINE_BITS)
        by_shard[shard][line] = (member.role, member.cluster)

    def task(path: Path, shard: int, *, documents: bool) -> Task:
        whole = len(by_shard[shard]) == counts[shard - first]
        return Task(
            name=f"write {path.relative_to(raw)}",
            reads=reads,
            output=(job.scratch if whole else job.folder) / path.relative_to(raw),
            call=partial(write_remaining, path, by_shard[shard], documents=documents),
        )

    documents = [*enumerate(shards(raw / "documents"), start=first)]
    tasks = [task(path, shard, documents=True) for shard, path in documents]
    elsewhere = raw / "attributes" / ELSEWHERE
    beside = ((n, elsewhere / path.relative_to(raw / "documents")) for n, path in documents)
    tasks += [task(path, shard, documents=False) for shard, path in beside if path.exists()]
    written = map_tasks(tasks, job, unit="files")
    rows: list[dict[str, Any]] = [
        {**row, "src": path.relative_to(raw).as_posix()}
        for (_, path), found in zip(documents, written[: len(documents)], strict=True)
        for row in found
    ]
    if len(rows) != len(held):
        raise RuntimeError(f"{len(held)} documents were chosen, and {len(rows)} found in the files")
    scored: dict[str, list[Document]] = defaultdict(list)
    for row in rows:
        if row["role"] == "scored":
            document = Document(**row.pop("document"))
            scored[document.source].append(document)
    for domain, chosen in scored.items():
        lines = ({"text": d.text, "id": d.id, "added": d.added, "source": domain} for d in chosen)
        write_rows(job.folder / "paloma" / domain / "val" / "part-00000.jsonl.gz", lines)
    write_rows(job.folder / "held_out.jsonl.gz", rows)
    return scored


def _table(facts: Mapping[str, Mapping[str, int]], held: Sequence[Member]) -> list[dict[str, Any]]:
    """Return the figures of each source."""
    left = {source: Counter[str]() for source in facts}
    for member in held:
        kind = member.role.replace(" ", "_")
        left[member.source].update({kind: 1, "all": 1, f"{kind}_bytes": member.text_bytes})
        left[member.source]["all_bytes"] += member.text_bytes
    return [
        {
            "source": source,
            **row,
            **{name: own[name] for name in LEFT},
            "remaining": row["documents"] - own["all"],
            "remaining_bytes": row["text_bytes"] - own["all_bytes"],
        }
        for (source, row), own in zip(facts.items(), left.values(), strict=True)
    ]


if __name__ == "__main__":
    run_job(HeldOutConfig, make)
