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
from typing import Any

from olmo_core.corpus.document import (
    Document,
    clip,
    read_documents,
    shards,
    source_names,
    write_documents,
)
from olmo_core.corpus.near_duplicates import NearDuplicateConfig, near_duplicate_groups
from olmo_core.corpus.rows import write_rows
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Section `held_out` of corpus.yaml.

    Raises:
        ConfigError: a share or bound out of range.
    """

    seed: int = 0  # of the hash that chooses clusters
    share: float = 0.02  # of each domain's documents
    min_documents: int = 5  # scored in each domain, whatever the share
    max_domain_bytes: int = 90_000  # scored in each domain; evaluation time grows with it
    # A cluster that holds more of a source's documents stays in training: a widespread licence
    # would otherwise take most of its source along.
    max_cluster_share: float = 0.05
    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)

    def __post_init__(self) -> None:
        if not (0.0 <= self.share < 1.0 and 0.0 < self.max_cluster_share <= 1.0):
            raise ConfigError("held_out: share and max_cluster_share are shares between 0 and 1")
        if self.min_documents < 1 or self.max_domain_bytes < 1:
            raise ConfigError("held_out: min_documents and max_domain_bytes: expected above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A document as the choice sees it."""

    id: str
    source: str
    text_bytes: int


Roles = Mapping[str, str]  # id -> "scored" or "set aside"; ids that stay are not in it


def choose(
    members: Sequence[Member], groups: Sequence[int], config: HeldOutConfig
) -> dict[str, str]:
    """Choose whole clusters in the order of their hash, domain by domain.

    Of each cluster the first document per domain is scored; its near copies are set aside, since
    scoring them again would say nothing new.

    Args:
        members: All documents.
        groups: For each, the index of its cluster's first member.
        config: Shares and bounds.

    Returns:
        Id -> "scored" or "set aside" of the documents that leave training.

    Raises:
        InputError: a domain ends with fewer than `min_documents` scored documents.
    """
    clusters: dict[int, list[Member]] = defaultdict(list)
    for member, group in zip(members, groups, strict=True):
        clusters[group].append(member)
    sizes = Counter(member.source for member in members)
    by_hash = sorted(clusters.values(), key=lambda cluster: _hash(config.seed, cluster[0].id))
    roles: dict[str, str] = {}
    scored: Counter[str] = Counter()
    scored_bytes: Counter[str] = Counter()
    for domain in sorted(sizes):
        wanted = max(config.min_documents, round(config.share * sizes[domain]))
        for cluster in by_hash:
            if scored[domain] >= wanted:
                break
            firsts = _first_by_source(cluster)
            if (
                domain not in firsts
                or cluster[0].id in roles
                or _widespread(cluster, sizes, config)
            ):
                continue
            too_big = any(
                scored_bytes[source] + first.text_bytes > config.max_domain_bytes
                for source, first in firsts.items()
            )
            if too_big:
                continue
            for member in cluster:
                first = firsts[member.source] is member
                roles[member.id] = "scored" if first else "set aside"
                scored[member.source] += first
                scored_bytes[member.source] += member.text_bytes if first else 0
    for domain in sorted(sizes):
        if scored[domain] < config.min_documents:
            raise InputError(
                f"held_out: domain {domain} has {sizes[domain]} documents and yields "
                f"{scored[domain]} to score within {config.max_domain_bytes} bytes; expected at "
                f"least min_documents = {config.min_documents}: raise max_domain_bytes or "
                "max_cluster_share, lower min_documents, or give the source more text"
            )
    return roles


def _hash(seed: int, cluster: str) -> bytes:
    return hashlib.sha256(f"{seed}:{cluster}".encode()).digest()


def _first_by_source(cluster: Sequence[Member]) -> dict[str, Member]:
    firsts: dict[str, Member] = {}
    for member in cluster:
        firsts.setdefault(member.source, member)
    return firsts


def _widespread(cluster: Sequence[Member], sizes: Counter[str], config: HeldOutConfig) -> bool:
    inside = Counter(member.source for member in cluster)
    return any(
        count > max(1, config.max_cluster_share * sizes[source]) for source, count in inside.items()
    )


def make(config: HeldOutConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Cluster all documents, take the chosen clusters out, write both parts."""
    documents = inputs["raw"] / "documents"
    files = shards(documents)
    members: list[Member] = []

    def texts() -> Iterator[str]:
        for number, path in enumerate(files):
            job.progress(number, 2 * len(files), unit="files", message="clustering")
            for _, document in read_documents(path):
                members.append(
                    Member(id=document.id, source=document.source, text_bytes=document.text_bytes)
                )
                yield document.text

    with job.timed("cluster near duplicates"):
        groups = near_duplicate_groups(texts(), config.near_duplicates)
    _check_ids(members)
    roles = choose(members, groups, config)
    with job.timed("write"):
        samples = _write(documents, files, roles, job)
        _write_clusters(members, groups, roles, job.folder / "clusters.jsonl.gz")
    table = _table(members, groups, roles, source_names(documents))
    return Report(
        numbers={
            "documents": len(members),
            "scored": sum(row["scored"] for row in table),
            "set_aside": sum(row["set_aside"] for row in table),
            "remaining": sum(row["remaining"] for row in table),
            "scored_bytes": sum(row["scored_bytes"] for row in table),
            "remaining_bytes": sum(row["remaining_bytes"] for row in table),
            "near_duplicates": sum(row["near_duplicates"] for row in table),
        },
        tables={"sources": table},
        samples={"held out": samples},
        data={"domains": [row["source"] for row in table]},
    )


def _check_ids(members: Sequence[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        if member.id in seen:
            raise InputError(f"held_out: id {member.id!r} is given twice; ids are unique")
        seen.add(member.id)


def _write(documents: Path, files: Sequence[Path], roles: Roles, job: Job) -> list[str]:
    """Write the remaining documents under their files' names, and the scored ones by domain."""
    scored: dict[str, list[Document]] = defaultdict(list)
    for number, path in enumerate(files):
        job.progress(len(files) + number, 2 * len(files), unit="files", message="writing")
        remaining: list[Document] = []
        for _, document in read_documents(path):
            role = roles.get(document.id)
            if role is None:
                remaining.append(document)
            elif role == "scored":
                scored[document.source].append(document)
        if remaining:
            write_documents(job.folder / "documents" / path.relative_to(documents), remaining)
    for domain, chosen in scored.items():
        rows = ({"text": d.text, "id": d.id, "added": d.added, "source": domain} for d in chosen)
        write_rows(job.folder / "paloma" / domain / "val" / "part-00000.jsonl.gz", rows)
    return [f"{domain[0].id}\n{clip(domain[0].text)}" for _, domain in sorted(scored.items())]


def _write_clusters(
    members: Sequence[Member], groups: Sequence[int], roles: Roles, path: Path
) -> None:
    """One row per document that is held out or has near copies: which cluster, which role."""
    sizes = Counter(groups)
    write_rows(
        path,
        (
            {
                "id": member.id,
                "cluster": members[group].id,
                "role": roles.get(member.id, "training"),
            }
            for member, group in zip(members, groups, strict=True)
            if member.id in roles or sizes[group] > 1
        ),
    )


def _table(
    members: Sequence[Member], groups: Sequence[int], roles: Roles, sources: Sequence[str]
) -> list[dict[str, Any]]:
    sizes = Counter(groups)
    rows: list[dict[str, Any]] = []
    for source in sources:
        mine = [(m, g) for m, g in zip(members, groups, strict=True) if m.source == source]
        scored = [m for m, _ in mine if roles.get(m.id) == "scored"]
        remaining = [m for m, _ in mine if m.id not in roles]
        rows.append(
            {
                "source": source,
                "documents": len(mine),
                "near_duplicates": sum(sizes[group] > 1 for _, group in mine),
                "largest_cluster": max(sizes[group] for _, group in mine),
                "scored": len(scored),
                "scored_bytes": sum(m.text_bytes for m in scored),
                "set_aside": len(mine) - len(scored) - len(remaining),
                "remaining": len(remaining),
                "remaining_bytes": sum(m.text_bytes for m in remaining),
            }
        )
    return rows


if __name__ == "__main__":
    run_job(HeldOutConfig, make)
