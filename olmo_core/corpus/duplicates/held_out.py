"""Asset `held_out`: the perplexity set, taken out of the raw text by near-duplicate cluster.

After it runs, `paloma/<domain>/val/*.jsonl.gz` hold the perplexity set in Paloma's file format, one
row per document, and `documents/<source>/` what remains for training: no near copy of a held-out
document is among it. A domain is a source.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.bounds import Bounded, above, at_least
from olmo_core.corpus.document import Document, read_documents, shards, totals, write_documents
from olmo_core.corpus.duplicates.near_duplicates import NearDuplicateConfig, near_duplicate_groups
from olmo_core.corpus.rows import write_rows
from olmo_core.errors import InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig(Bounded):
    """Section `held_out` of corpus.yaml.

    Raises:
        ValueError: a share or bound out of range.
    """

    seed: int = 0  # of the hash that chooses clusters
    share: float = 0.02  # of each domain's documents
    min_documents: int = at_least(1, default=5)  # scored in each domain, whatever the share
    # scored in each domain; evaluation time grows with it
    max_domain_bytes: int = at_least(1, default=90_000)
    # A cluster that holds more of a source's documents stays in training: a widespread licence
    # would otherwise take most of its source along.
    max_cluster_share: float = above(0, at_most=1, default=0.05)
    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.share < 1.0:
            raise ValueError(f"share is {self.share}; expected 0 or more, and below 1")


@dataclass(kw_only=True, slots=True)
class Member:
    """A document as the choice sees it."""

    id: str
    source: str
    text_bytes: int
    cluster: str = ""  # id of its first member
    role: Literal["training", "scored", "set aside"] = "training"


def choose(members: Sequence[Member], config: HeldOutConfig) -> None:
    """Choose whole clusters in the order of their hash, domain by domain, and set the roles.

    Of each cluster the first document per domain is scored; its near copies are set aside, since
    scoring them again would say nothing new.

    Raises:
        InputError: a domain ends with fewer than `min_documents` scored documents.
    """
    clusters: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        clusters[member.cluster].append(member)
    sizes = Counter(member.source for member in members)

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{config.seed}:{name}".encode()).digest()

    by_hash = [clusters[name] for name in sorted(clusters, key=place)]
    scored: Counter[str] = Counter()
    scored_bytes: Counter[str] = Counter()
    for domain in sorted(sizes):
        wanted = max(config.min_documents, round(config.share * sizes[domain]))
        for cluster in by_hash:
            if scored[domain] >= wanted:
                break
            firsts = {member.source: member for member in reversed(cluster)}
            if domain not in firsts or cluster[0].role != "training":
                continue
            inside = Counter(member.source for member in cluster)
            if any(
                inside[source] > max(1, config.max_cluster_share * sizes[source])
                or scored_bytes[source] + first.text_bytes > config.max_domain_bytes
                for source, first in firsts.items()
            ):
                continue
            for member in cluster:
                member.role = "set aside"
            for source, first in firsts.items():
                first.role = "scored"
                scored[source] += 1
                scored_bytes[source] += first.text_bytes
    for domain in sorted(sizes):
        if scored[domain] < config.min_documents:
            raise InputError(
                f"held_out: domain {domain} has {sizes[domain]} documents and yields "
                f"{scored[domain]} to score within {config.max_domain_bytes} bytes; expected at "
                f"least min_documents = {config.min_documents}: raise max_domain_bytes or "
                "max_cluster_share, lower min_documents, or give the source more text"
            )


def make(config: HeldOutConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Cluster all documents, take the chosen clusters out, write both parts."""
    documents = inputs["raw"] / "documents"
    files = shards(documents)
    members: list[Member] = []

    def texts() -> Iterator[str]:
        for number, path in enumerate(files):
            job.progress(number, 2 * len(files), unit="files", message="clustering")
            for document in read_documents(path):
                members.append(
                    Member(id=document.id, source=document.source, text_bytes=document.text_bytes)
                )
                yield document.text

    with job.timed("cluster near duplicates"):
        groups = near_duplicate_groups(texts(), config.near_duplicates)
    for member, first in zip(members, groups, strict=True):
        member.cluster = members[first].id
    twice = [name for name, count in Counter(member.id for member in members).items() if count > 1]
    if twice:
        raise InputError(f"held_out: id {twice[0]!r} is given twice; ids are unique")
    choose(members, config)
    sizes = Counter(member.cluster for member in members)
    with job.timed("write"):
        samples = _write(documents, files, {member.id: member.role for member in members}, job)
        # One row per document that is held out or has near copies.
        clusters = (
            {"id": member.id, "cluster": member.cluster, "role": member.role}
            for member in members
            if member.role != "training" or sizes[member.cluster] > 1
        )
        write_rows(job.folder / "clusters.jsonl.gz", clusters)
    table = [
        _row(source, [member for member in members if member.source == source], sizes)
        for source in sorted({member.source for member in members})
    ]
    columns = ("scored", "set_aside", "remaining", "scored_bytes", "remaining_bytes")
    return Report(
        numbers={"documents": len(members), **totals(table, *columns, "near_duplicates")},
        tables={"sources": table},
        samples={"held out": samples},
        data={"domains": [row["source"] for row in table]},
    )


def _write(documents: Path, files: Sequence[Path], roles: Mapping[str, str], job: Job) -> list[str]:
    """Write the remaining documents under their files' names, and the scored ones by domain.

    Returns:
        The beginning of one scored document per domain.
    """
    scored: dict[str, list[Document]] = defaultdict(list)
    for number, path in enumerate(files):
        job.progress(len(files) + number, 2 * len(files), unit="files", message="writing")
        remaining: list[Document] = []
        for document in read_documents(path):
            if roles[document.id] == "training":
                remaining.append(document)
            elif roles[document.id] == "scored":
                scored[document.source].append(document)
        if remaining:
            write_documents(job.folder / "documents" / path.relative_to(documents), remaining)
    for domain, chosen in scored.items():
        rows = ({"text": d.text, "id": d.id, "added": d.added, "source": domain} for d in chosen)
        write_rows(job.folder / "paloma" / domain / "val" / "part-00000.jsonl.gz", rows)
    return [chosen[0].sample() for _, chosen in sorted(scored.items())]


def _row(source: str, members: Sequence[Member], sizes: Counter[str]) -> dict[str, Any]:
    scored = [member.text_bytes for member in members if member.role == "scored"]
    remaining = [member.text_bytes for member in members if member.role == "training"]
    return {
        "source": source,
        "documents": len(members),
        "near_duplicates": sum(sizes[member.cluster] > 1 for member in members),
        "largest_cluster": max(sizes[member.cluster] for member in members),
        "scored": len(scored),
        "scored_bytes": sum(scored),
        "set_aside": len(members) - len(scored) - len(remaining),
        "remaining": len(remaining),
        "remaining_bytes": sum(remaining),
    }


if __name__ == "__main__":
    run_job(HeldOutConfig, make)
