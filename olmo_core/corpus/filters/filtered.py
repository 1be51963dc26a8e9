"""Asset `filtered`: documents that no rule drops, mixed by the dolma toolkit; one row per document.

After it runs, `documents/<source>/part-*.jsonl.gz` hold what training may read, and `dropped/` has
a row per document that goes: its id, the rule, and where it stands in `held_out`. The same rules
are evaluated here and by the toolkit; the two must agree on every document and every text. What is
written are the documents of `held_out`: the toolkit's lose digits and keys of their metadata.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from olmo_core.config.bounds import Bounded, at_least
from olmo_core.corpus.document import (
    DROPPED_FOLDER,
    ELSEWHERE,
    numbered,
    read_folder,
    shards,
    source_names,
    totals,
)
from olmo_core.corpus.filters.mixing import Source, filter_files
from olmo_core.corpus.filters.names import check_sources
from olmo_core.corpus.filters.replacements import Replacement
from olmo_core.corpus.filters.rules import BLANK, Rule, Verdict, check_families
from olmo_core.corpus.toolkit import (
    marked_files,
)
from olmo_core.errors import ConfigError, InputError
from olmo_core.files import link_files, read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

# Who writes attributes, and in which folder; a recipe may do without the last.
ATTRIBUTES = {"tagged": "tags", "deduplicated": "duplicates", "decontaminated": "evaluation"}
# Of compressed documents. Each chunk starts the toolkit, for a second, and holds all of its ids.
CHUNK_BYTES = 8_000_000


@dataclass(frozen=True, kw_only=True)
class FilteredConfig(Bounded):
    """Section `filtered` of corpus.yaml.

    Raises:
        ValueError: a value out of range, sources that differ, or a rule named twice in a source.
    """

    rules: Mapping[str, tuple[Rule, ...]]  # source -> rules; the first that drops is the reason
    min_kept_share: Mapping[str, float]  # source -> documents that must remain, or the job fails
    # source -> spans that become another text in what stays
    replacements: Mapping[str, tuple[Replacement, ...]] = field(
        default_factory=dict[str, tuple[Replacement, ...]]
    )
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
        unknown = sorted(set(self.replacements) - set(self.rules))
        if unknown:
            raise ConfigError(
                f"filtered: replacements: names {unknown}; expected some of {sorted(self.rules)}"
            )
        for key, named in (("rules", self.rules), ("replacements", self.replacements)):
            for source, entries in named.items():
                names = Counter(entry.name for entry in entries)
                twice = [name for name, count in names.items() if count > 1]
                if twice:
                    raise ConfigError(f"filtered: {key}: {source}: {twice} given twice")
        super().__post_init__()


def make(config: FilteredConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Judge, mix and compare the files in chunks, each a task; number what they write."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.rules, documents, "filtered: rules")
    reads = " ".join(str(read_json(folder / "result.json")["digest"]) for folder in inputs.values())
    sources = {
        name: Source(
            rules=rules,
            replacements=config.replacements.get(name, ()),
            attributes=attribute_folders(inputs, name),
        )
        for name, rules in config.rules.items()
    }
    for name, source in sources.items():  # a missing file is named before the work begins
        marked_files(documents / name, *(folder / name for folder in source.attributes))
    chunks = _chunks(documents)
    # One chunk has all processes to itself: the mixer takes a file in each.
    processes = 1 if len(chunks) > 1 else job.processes
    how = partial(filter_files, documents, sources, config.shard_bytes, processes)
    tasks = [
        Task(
            name=f"filter chunk {number}",
            reads=reads,
            output=job.scratch / "chunks" / f"{number:05d}",
            call=partial(how, names),
        )
        for number, names in enumerate(chunks)
    ]
    verdicts = {name: Verdict(rules=config.rules[name]) for name in source_names(documents)}
    with job.timed("filter"):
        for found in map_tasks(tasks, job, unit="chunks"):
            for source, facts in found.items():
                verdicts[source].join(facts)
    for source, verdict in verdicts.items():
        named = (*verdict.rules, *sources[source].replacements)
        of_each = [(each.name, each.attribute) for each in named]
        check_families(of_each, verdict.attributes, source)
    _check_shares(config, verdicts)
    with job.timed("number the files"):
        for kind in ("documents", DROPPED_FOLDER):
            link_files(job.folder / kind, _numbered([task.output / kind for task in tasks]))
    return _report(config, verdicts, job.folder / "documents")


def attribute_folders(inputs: Mapping[str, Path], source: str) -> list[Path]:
    """Return the folders of what is said of a source's documents: ours, and made elsewhere."""
    folders = [
        inputs[asset] / "attributes" / experiment
        for asset, experiment in ATTRIBUTES.items()
        if asset in inputs
    ]
    elsewhere = inputs["held_out"] / "attributes" / ELSEWHERE
    return [*folders, elsewhere] if (elsewhere / source).exists() else folders


def _chunks(documents: Path) -> list[list[str]]:
    """Return the names of the files in chunks of bounded size, in their order.

    The chunks decide which texts share a file, so they depend on the documents alone.
    """
    chunks: list[list[str]] = []
    size = 0
    for path in shards(documents):
        if not chunks or size >= CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(path.relative_to(documents).as_posix())
        size += path.stat().st_size
    return chunks


def _numbered(folders: Sequence[Path]) -> dict[str, Path]:
    """Return each file of the chunks' folders under its name over all: numbered per source."""
    # By number, of however many digits: a chunk does not know beforehand how many files it makes.
    found = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*.jsonl.gz"), key=lambda p: (p.parent, len(p.name), p))
    ]
    counts = Counter(path.parent.name for path in found)
    numbers = {source: numbered(count) for source, count in counts.items()}
    return {
        f"{path.parent.name}/part-{next(numbers[path.parent.name])}.jsonl.gz": path
        for path in found
    }


def _check_shares(config: FilteredConfig, verdicts: Mapping[str, Verdict]) -> None:
    for source, verdict in verdicts.items():
        share = verdict.kept / verdict.documents
        if share < config.min_kept_share[source]:
            raise InputError(
                f"filtered: source {source} keeps {verdict.kept} of {verdict.documents} "
                f"documents ({share:.3f}); expected at least min_kept_share "
                f"{config.min_kept_share[source]}; dropped by {dict(verdict.reasons)}"
            )
    if not config.may_drop_nothing and not any(v.reasons for v in verdicts.values()):
        raise InputError(
            "filtered: no rule dropped any document; expected some: correct the rules, or set "
            "`may_drop_nothing: true`"
        )


def _report(config: FilteredConfig, verdicts: Mapping[str, Verdict], documents: Path) -> Report:
    table = [
        {
            "source": source,
            "documents": verdict.documents,
            "kept": verdict.kept,
            "dropped": verdict.reasons.total(),
            "kept_share": round(verdict.kept / verdict.documents, 4),
            "min_kept_share": config.min_kept_share[source],
            "kept_bytes": verdict.kept_bytes,
            "dropped_bytes": verdict.dropped_bytes.total(),
            "kept_words": verdict.kept_words,
            "dropped_words": verdict.dropped_words.total(),
            "replaced_spans": verdict.replaced.total(),
        }
        for source, verdict in verdicts.items()
    ]
    rules = [
        {
            "source": source,
            "rule": name,
            "dropped": verdict.reasons[name],  # each document counts once
            "matched": verdict.matches[name],  # also where an earlier rule dropped it
            "dropped_bytes": verdict.dropped_bytes[name],
            "dropped_words": verdict.dropped_words[name],
        }
        for source, verdict in verdicts.items()
        for name in [
            *(rule.name for rule in verdict.rules),
            *([BLANK] if verdict.reasons[BLANK] else []),
        ]
    ]
    masks = [
        {"source": source, "replacement": name, "spans": count}
        for source, verdict in verdicts.items()
        for name, count in sorted(verdict.replaced.items())
    ]
    columns = ("documents", "kept", "dropped", "kept_bytes", "kept_words", "replaced_spans")
    numbers = totals(table, *columns)
    return Report(
        numbers={
            **numbers,
            "kept_share": round(numbers["kept"] / numbers["documents"], 4),
            "text_bytes": sum(verdict.text_bytes for verdict in verdicts.values()),
        },
        tables={"sources": table, "dropped by rule": rules, "replaced spans": masks},
        samples={
            "kept": [next(read_folder(documents / source)).sample() for source in verdicts],
            "dropped": [
                sample
                for verdict in verdicts.values()
                for _, sample in sorted(verdict.samples.items())
            ],
        },
        data={
            "sources": {source: verdict.kept for source, verdict in verdicts.items()},
            "evaluation": {source: verdict.evaluation for source, verdict in verdicts.items()},
        },
    )


if __name__ == "__main__":
    run_job(FilteredConfig, make)
