"""Asset `filtered`: documents that no rule drops, mixed by the dolma toolkit; one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold what training may read. The same rules are
evaluated here and by the toolkit; the two must agree on every document and every text. What is
written are the documents of `held_out`: the toolkit's lose digits and keys of their metadata.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import (
    Document,
    read_documents,
    read_folder,
    shards,
    source_names,
    totals,
    write_shards,
)
from olmo_core.corpus.filters.rules import Rule, Verdict, check_families
from olmo_core.corpus.filters.tagged import check_sources
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    ToolkitError,
    link_view,
    marked_files,
    run_steps,
)
from olmo_core.errors import ConfigError, InputError
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

# Who writes attributes, and in which folder; a recipe may do without the last.
ATTRIBUTES = {"tagged": "tags", "deduplicated": "duplicates", "decontaminated": "evaluation"}
SHARD_MAX_BYTES = 2**31  # of one file that the toolkit writes, before it is cut into ours


@dataclass(frozen=True, kw_only=True)
class FilteredConfig(Bounded):
    """Section `filtered` of corpus.yaml.

    Raises:
        ValueError: a value out of range, sources that differ, or a rule named twice in a source.
    """

    rules: Mapping[str, tuple[Rule, ...]]  # source -> rules; the first that drops is the reason
    min_kept_share: Mapping[str, float]  # source -> documents that must remain, or the job fails
    may_drop_nothing: bool = False  # a filter that removes nothing is a mistake unless set
    shard_bytes: int = at_least(1, default=1_000_000)  # of text in one file

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
        super().__post_init__()


def make(config: FilteredConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Judge every document, have the toolkit mix, compare, and write the sources anew."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.rules, documents, "filtered: rules")
    folders = {
        asset: inputs[asset] / "attributes" / experiment
        for asset, experiment in ATTRIBUTES.items()
        if asset in inputs
    }
    names = source_names(documents)
    with job.timed("judge"):
        verdicts = {name: Verdict(rules=config.rules[name]) for name in names}
        for name, rows in marked_files(documents, *folders.values()):
            source = name.parts[0]
            done = names.index(source)
            job.progress(done, 2 * len(names), unit="sources", message=f"judging {source}")
            for document, marks in rows:
                verdicts[source].add(document, {k: v for mark in marks for k, v in mark.items()})
    for source, verdict in verdicts.items():
        check_families(verdict.rules, verdict.attributes, source)
    _check_shares(config, verdicts)
    parts = {f"attributes/{folder.name}": folder for folder in folders.values()}
    link_view(job.scratch / "view", {"documents": documents, **parts})
    with job.timed("dolma mix"):
        experiments = [folder.name for folder in folders.values()]
        step = _mix_step(documents, experiments, config, job.processes)
        run_steps([[step]], job.scratch, processes=1)
    with job.timed("compare and write"):
        for number, source in enumerate(names):
            job.progress(len(names) + number, 2 * len(names), unit="sources", message=source)
            compare(job.scratch / "mixed" / source, verdicts[source])
            write_shards(
                job.folder / "documents" / source,
                _kept(documents / source, verdicts[source]),
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


def _mix_step(
    documents: Path, experiments: Sequence[str], config: FilteredConfig, processes: int
) -> ToolkitCommand:
    """Return the call of dolma's mixer for all sources: one stream per source."""
    streams = [
        {
            "name": source,
            "documents": [
                f"view/documents/{path.relative_to(documents)}"
                for path in shards(documents / source)
            ],
            "attributes": experiments,
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
        }
        for source in source_names(documents)
    ]
    return ToolkitCommand(
        name="mix",
        kind="mixer",
        config={
            "streams": streams,
            "processes": processes,
            "shuffle": False,  # the order of documents is the input's
            "work_dir": {"input": "dolma/input", "output": "dolma/output"},
        },
    )


def compare(folder: Path, verdict: Verdict) -> None:
    """Hold the documents of a source that the toolkit kept against our own verdict.

    Raises:
        ToolkitError: another document, another text, or too few or too many.
    """
    expected = iter(verdict.kept)
    # Unshuffled, the mixer writes one file per input file, below folders of its own.
    for path in sorted(folder.rglob("*.json*.gz")):
        try:
            for line_number, document in enumerate(read_documents(path), start=1):
                wanted = next(expected, None)
                if wanted != (document.id, hash(document.text)):
                    raise ToolkitError(
                        f"{path}:{line_number}: dolma kept {document.id!r}; the rules of "
                        f"{folder.name} keep {wanted[0] if wanted else 'nothing more'!r} here"
                    )
        except InputError as error:
            raise ToolkitError(
                f"dolma's mixer ended well and left a damaged file (a full disk?): {error}"
            ) from None
    missing = next(expected, None)
    if missing is not None:
        raise ToolkitError(
            f"{folder}: dolma dropped {missing[0]!r}; the rules of {folder.name} keep it (a "
            "temporary file is left over there where it did not finish)"
        )


def _kept(folder: Path, verdict: Verdict) -> Iterator[Document]:
    """Yield the documents of a source that its rules keep, as they were before the toolkit."""
    expected = iter(verdict.kept)
    wanted = next(expected, None)
    for document in read_folder(folder):  # in the order of the verdict
        if wanted is not None and document.id == wanted[0]:
            yield document
            wanted = next(expected, None)


def _report(config: FilteredConfig, verdicts: Mapping[str, Verdict], documents: Path) -> Report:
    table = [
        {
            "source": source,
            "documents": verdict.documents,
            "kept": len(verdict.kept),
            "dropped": verdict.reasons.total(),
            "kept_share": round(len(verdict.kept) / verdict.documents, 4),
            "min_kept_share": config.min_kept_share[source],
            "kept_bytes": verdict.kept_bytes,
            "dropped_bytes": verdict.dropped_bytes.total(),
        }
        for source, verdict in verdicts.items()
    ]
    rules = [
        {
            "source": source,
            "rule": rule.name,
            "dropped": verdict.reasons[rule.name],  # each document counts once
            "matched": verdict.matches[rule.name],  # also where an earlier rule dropped it
            "dropped_bytes": verdict.dropped_bytes[rule.name],
        }
        for source, verdict in verdicts.items()
        for rule in verdict.rules
    ]
    numbers = totals(table, "documents", "kept", "dropped", "kept_bytes", "dropped_bytes")
    dropped_bytes = numbers.pop("dropped_bytes")
    return Report(
        numbers={
            **numbers,
            "kept_share": round(numbers["kept"] / numbers["documents"], 4),
            "text_bytes": numbers["kept_bytes"] + dropped_bytes,
        },
        tables={"sources": table, "dropped by rule": rules},
        samples={
            "kept": [next(read_folder(documents / source)).sample() for source in verdicts],
            "dropped": [
                sample
                for verdict in verdicts.values()
                for _, sample in sorted(verdict.samples.items())
            ],
        },
        data={
            "sources": {source: len(verdict.kept) for source, verdict in verdicts.items()},
            "evaluation": {source: verdict.evaluation for source, verdict in verdicts.items()},
        },
    )


if __name__ == "__main__":
    run_job(FilteredConfig, make)
