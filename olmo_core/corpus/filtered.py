"""Asset `filtered`: documents that no rule drops, mixed by the dolma toolkit; one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold what training may read. The same rules are
evaluated here and by the toolkit; the two must agree on every document and every text.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from olmo_core.corpus.document import (
    Document,
    clip,
    read_documents,
    shards,
    source_names,
    write_shards,
)
from olmo_core.corpus.rules import Rule, Verdict, judge, text_digest
from olmo_core.corpus.tagged import check_sources
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    ToolkitError,
    check_mirror,
    check_no_leftovers,
    link_view,
    run_steps,
)
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

EXPERIMENTS = ("tags", "duplicates")
SHARD_MAX_BYTES = 2**31  # of one file that the toolkit writes, before it is cut into ours


@dataclass(frozen=True, kw_only=True)
class FilteredConfig:
    """Section `filtered` of corpus.yaml.

    Raises:
        ConfigError: a share out of range, sources that differ, or a rule named twice in a source.
    """

    rules: Mapping[str, tuple[Rule, ...]]  # source -> rules; the first that drops is the reason
    min_kept_share: Mapping[str, float]  # source -> documents that must remain, or the job fails
    may_drop_nothing: bool = False  # a filter that removes nothing is a mistake unless set
    shard_bytes: int = 1_000_000  # of text in one file

    def __post_init__(self) -> None:
        if set(self.rules) != set(self.min_kept_share):
            raise ConfigError(
                f"filtered: rules name {sorted(self.rules)}, min_kept_share names "
                f"{sorted(self.min_kept_share)}; expected the same sources"
            )
        for source, share in self.min_kept_share.items():
            if not 0.0 < share <= 1.0:
                raise ConfigError(
                    f"filtered: min_kept_share: {source}: {share}: expected 0 < x <= 1"
                )
        for source, rules in self.rules.items():
            twice = [n for n, count in Counter(rule.name for rule in rules).items() if count > 1]
            if twice:
                raise ConfigError(f"filtered: rules: {source}: {twice} given twice")
        if self.shard_bytes <= 0:
            raise ConfigError(f"filtered: shard_bytes {self.shard_bytes}: expected above 0")


def make(config: FilteredConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Judge every document, have the toolkit mix, compare, and write the sources anew."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.rules, documents, "filtered: rules")
    parts = {
        "tags": inputs["tagged"] / "attributes" / "tags",
        "duplicates": inputs["deduplicated"] / "attributes" / "duplicates",
    }
    names = source_names(documents)
    with job.timed("judge"):
        for folder in parts.values():
            check_mirror(documents, folder)
        verdicts: dict[str, Verdict] = {}
        for number, source in enumerate(names):
            job.progress(number, 2 * len(names), unit="sources", message=f"judging {source}")
            verdicts[source] = judge(documents / source, parts, config.rules[source])
    _check_shares(config, verdicts)
    link_view(job.scratch / "view", documents=documents, **parts)
    with job.timed("dolma mix"):
        steps = [[_mix_step(documents, config, job.processes)]]
        run_steps(steps, job.scratch, processes=1)
    check_no_leftovers(job.scratch / "mixed")
    with job.timed("compare and write"):
        for number, source in enumerate(names):
            job.progress(len(names) + number, 2 * len(names), unit="sources", message=source)
            write_shards(
                job.folder / "documents" / source,
                compared(job.scratch / "mixed" / source, verdicts[source], source),
                shard_bytes=config.shard_bytes,
            )
    return _report(config, verdicts, job.folder / "documents")


def _check_shares(config: FilteredConfig, verdicts: Mapping[str, Verdict]) -> None:
    for source, verdict in verdicts.items():
        share = len(verdict.kept) / verdict.documents
        if share < config.min_kept_share[source]:
            raise InputError(
                f"filtered: source {source} keeps {len(verdict.kept)} of {verdict.documents} "
                f"documents ({share:.3f}); expected at least min_kept_share "
                f"{config.min_kept_share[source]}; dropped by {dict(verdict.reasons)}"
            )
    if not config.may_drop_nothing and not any(v.reasons for v in verdicts.values()):
        raise InputError(
            "filtered: no rule dropped any document; expected some: correct the rules, or set "
            "`may_drop_nothing: true`"
        )


def _mix_step(documents: Path, config: FilteredConfig, processes: int) -> ToolkitCommand:
    """One call of dolma's mixer for all sources: one stream per source."""
    streams = [
        {
            "name": source,
            "documents": [
                f"view/documents/{path.relative_to(documents)}"
                for path in shards(documents / source)
            ],
            "attributes": list(EXPERIMENTS),
            "filter": {
                "include": [],
                # A stream must have a filter; one that is never true keeps everything.
                "exclude": [rule.jq() for rule in config.rules[source]] or ["false"],
                "syntax": "jq",
            },
            "output": {
                "path": f"mixed/{source}",
                "max_size_in_bytes": SHARD_MAX_BYTES,
                "discard_fields": ["attributes"],
            },
            "compression": {"input": None, "output": None},
        }
        for source in source_names(documents)
    ]
    return ToolkitCommand(
        name="mix",
        kind="mix",
        config={
            "streams": streams,
            "processes": processes,
            "shuffle": False,  # the order of documents is the input's
            "work_dir": {"input": "dolma/input", "output": "dolma/output"},
        },
    )


def compared(folder: Path, verdict: Verdict, source: str) -> Iterator[Document]:
    """Yield the documents that the toolkit kept, each held against our own verdict.

    Raises:
        ToolkitError: another document, another text, or too few or too many.
    """
    expected = iter(verdict.kept)
    for place, document in _mixed(folder):
        wanted = next(expected, None)
        if wanted is None or wanted != (document.id, text_digest(document.text)):
            raise ToolkitError(
                f"{place}: dolma kept {document.id!r}; the rules of {source} keep "
                f"{wanted[0] if wanted else 'nothing more'!r} here"
            )
        yield document
    missing = next(expected, None)
    if missing is not None:
        raise ToolkitError(f"{folder}: dolma dropped {missing[0]!r}; the rules of {source} keep it")


def _mixed(folder: Path) -> Iterator[tuple[str, Document]]:
    """Yield the place and the document of every line that the mixer wrote for a source."""
    # Unshuffled, the mixer writes one file per input file, below folders of its own.
    for path in sorted(folder.rglob("*.json*.gz")):
        try:
            for line_number, document in read_documents(path):
                yield f"{path}:{line_number}", document
        except InputError as error:
            raise ToolkitError(
                f"dolma's mixer ended well and left a damaged file (a full disk?): {error}"
            ) from None


def _report(config: FilteredConfig, verdicts: Mapping[str, Verdict], documents: Path) -> Report:
    total = sum(verdict.documents for verdict in verdicts.values())
    kept = sum(len(verdict.kept) for verdict in verdicts.values())
    return Report(
        numbers={
            "documents": total,
            "kept": kept,
            "dropped": total - kept,
            "kept_share": round(kept / total, 4),
            "text_bytes": sum(verdict.text_bytes for verdict in verdicts.values()),
            "kept_bytes": sum(verdict.kept_bytes for verdict in verdicts.values()),
        },
        tables={
            "sources": [
                {
                    "source": source,
                    "documents": verdict.documents,
                    "kept": len(verdict.kept),
                    "dropped": sum(verdict.reasons.values()),
                    "kept_share": round(len(verdict.kept) / verdict.documents, 4),
                    "min_kept_share": config.min_kept_share[source],
                    "kept_bytes": verdict.kept_bytes,
                    "dropped_bytes": sum(verdict.dropped_bytes.values()),
                }
                for source, verdict in verdicts.items()
            ],
            "dropped by rule": [
                {
                    "source": source,
                    "rule": rule.name,
                    "dropped": verdict.reasons[rule.name],  # each document counts once
                    "matched": verdict.matches[rule.name],  # also where an earlier rule dropped it
                    "dropped_bytes": verdict.dropped_bytes[rule.name],
                }
                for source, verdict in verdicts.items()
                for rule in config.rules[source]
            ],
        },
        samples={
            "kept": [_first_kept(documents / source) for source in verdicts],
            "dropped": [
                sample
                for verdict in verdicts.values()
                for _, sample in sorted(verdict.samples.items())
            ],
        },
        data={"sources": {source: len(verdict.kept) for source, verdict in verdicts.items()}},
    )


def _first_kept(folder: Path) -> str:
    _, document = next(read_documents(shards(folder)[0]))
    return f"{document.id}\n{clip(document.text)}"


if __name__ == "__main__":
    run_job(FilteredConfig, make)
