"""Asset `tagged`: what the dolma toolkit's taggers say of each document, one row per document.

After it runs, `attributes/tags/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`. Every source has its own taggers: rules made for prose would delete code.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import read_attributes, read_documents, shards, source_names, totals
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.toolkit import ToolkitCommand, link_view, marked_files, run_steps
from olmo_core.errors import ConfigError
from olmo_core.files import link_files, read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

EXPERIMENT = "tags"
COUNTS = ("documents", "text_bytes")  # of a source
# Of files. Each starts the toolkit, for a second; each is done again if its process is lost.
CHUNKS_PER_PROCESS = 4  # where nodes share the work
CHUNK_BYTES = 8_000_000  # of compressed documents, on one machine

# Taggers of dolma 1.2.1 that were run without network (docs/corpus.md); others fetch models.
OFFLINE_TAGGERS = (
    "c4_v1",
    "c4_v2",
    "char_length_v1",
    "char_length_with_paragraphs_v1",
    "gopher_v1",
    "gopher_v2",
    "not_alphanum_paragraph_v1",
    "pii_regex_v1",
    "pii_regex_v2",
    "pii_regex_with_counts_fast_v2",
    "pii_regex_with_counts_v2",
    "whitespace_tokenizer_v1",
    "whitespace_tokenizer_with_paragraphs_v1",
)


@dataclass(frozen=True, kw_only=True)
class TaggedConfig:
    """Section `tagged` of corpus.yaml.

    Raises:
        ConfigError: no tagger for a source, or one that does not work offline.
    """

    taggers: Mapping[str, tuple[str, ...]]  # source -> taggers of the dolma toolkit

    def __post_init__(self) -> None:
        for source, names in self.taggers.items():
            if not names:
                raise ConfigError(f"tagged: taggers: {source}: empty; name at least one")
            for name in names:
                if name not in OFFLINE_TAGGERS:
                    raise ConfigError(
                        f"tagged: taggers: {source}: {name!r} is not known to work offline; "
                        f"expected some of {list(OFFLINE_TAGGERS)}"
                    )


def make(config: TaggedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Tag and check the files in chunks, each a task."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.taggers, documents, "tagged: taggers")
    counts: dict[str, Counter[str]] = {name: Counter() for name in source_names(documents)}
    with job.timed("tag"):
        reads = read_json(inputs["held_out"] / "result.json")["digest"]
        chunks = _tag(documents, config, job, reads=reads)
    files: dict[str, Path] = {}
    for chunk, found in chunks:
        for source, counted in found.items():
            counts[source].update(counted)
        paths = shards(chunk)
        files |= {path.relative_to(chunk).as_posix(): path for path in paths}
    target = job.folder / "attributes" / EXPERIMENT
    target.parent.mkdir(exist_ok=True)
    link_files(target, files)
    marked_files(documents, target)  # each document file has been tagged
    table = [
        {"source": source, "taggers": ", ".join(config.taggers[source]), **counted}
        for source, counted in counts.items()
    ]
    return Report(
        numbers={
            **totals(table, *COUNTS),
            "files": len(files),
            "taggers": len({name for names in config.taggers.values() for name in names}),
        },
        tables={"sources": table},
        samples={"attributes": _samples(target)},
        data={"experiment": EXPERIMENT},
    )


def _tag(
    documents: Path, config: TaggedConfig, job: Job, *, reads: str
) -> list[tuple[Path, dict[str, Any]]]:
    """Tag the files in chunks; return each chunk's folder of attributes, and what was counted."""
    sizes = {
        path.relative_to(documents).as_posix(): path.stat().st_size for path in shards(documents)
    }
    if job.workers:
        wanted = CHUNKS_PER_PROCESS * job.processes * (1 + job.workers)
    else:
        wanted = 1 + sum(sizes.values()) // CHUNK_BYTES
    number = min(len(sizes), wanted)
    # The largest first, so that no long file is left for the end.
    names = sorted(sizes, key=lambda name: -sizes[name])
    tasks = [
        Task(
            name=f"tag {chunk + 1} of {number}",
            reads=reads,
            # Another attempt may cut otherwise: a marker must not find that one's chunk.
            output=job.scratch / "chunks" / f"{chunk:04d}-of-{number:04d}",
            call=partial(
                tag_files,
                names[chunk::number],  # each has long files and short ones
                documents,
                config,
                1 if number > 1 else job.processes,
            ),
        )
        for chunk in range(number)
    ]
    found = map_tasks(tasks, job, unit="chunks")
    return [(task.output, counted) for task, counted in zip(tasks, found, strict=True)]


def tag_files(
    names: Sequence[str], documents: Path, config: TaggedConfig, processes: int, out: Path
) -> dict[str, Counter[str]]:
    """Write the attributes of some files, under their names in the folder `out`.

    A toolkit process tags them. They are read whole before, since it would pass over half of a
    broken file, and each row is held against its document after.

    Returns:
        Source -> `COUNTS` of its documents in these files.

    Raises:
        ToolkitError: a row too few or too many, or of another document.
        InputError: a damaged file.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        for document in read_documents(documents / name):
            counts[Path(name).parts[0]].update(documents=1, text_bytes=document.text_bytes)
    working = out.with_name(f"{out.name}.working")
    view = working / "view"
    link_view(view / "documents", {name: documents / name for name in names})
    steps = [
        ToolkitCommand(
            name=f"tag/{name}".removesuffix(".jsonl.gz").replace("/", "-"),
            kind="tag",
            config={
                "documents": [f"view/documents/{name}"],
                "destination": [f"view/attributes/{EXPERIMENT}/{Path(name).parent}"],
                "metadata": f"metadata/{name}".removesuffix(".jsonl.gz"),
                "experiment": EXPERIMENT,
                "taggers": list(config.taggers[Path(name).parts[0]]),
            },
        )
        for name in names
    ]
    run_steps([steps], working, processes=processes)
    for name, rows in marked_files(view / "documents", view / "attributes" / EXPERIMENT):
        # Written anew: the toolkit's gzip holds the time.
        found = ({"id": document.id, "attributes": tags} for document, (tags,) in rows)
        write_rows(out / name, found)
    shutil.rmtree(working)
    return counts


def check_sources(named: Mapping[str, Any], documents: Path, where: str) -> None:
    """Refuse a per-source setting that does not name exactly the sources that there are.

    Raises:
        ConfigError: a source too few or too many.
    """
    there = set(source_names(documents))
    if set(named) != there:
        raise ConfigError(
            f"{where}: names {sorted(named)}; expected exactly the sources {sorted(there)} "
            f"(missing {sorted(there - set(named))}, unknown {sorted(set(named) - there)})"
        )


def _samples(attributes: Path) -> Sequence[str]:
    """Return one document's scores per source (spans over single lines left out)."""
    samples: list[str] = []
    for source in source_names(attributes):
        document_id, values = next(read_attributes(shards(attributes / source)[0]))
        scores = {key: spans[0][2] for key, spans in values.items() if len(spans) == 1}
        lines = [f"{key} = {score:.4g}" for key, score in sorted(scores.items())]
        samples.append("\n".join([document_id, *lines]))
    return samples


if __name__ == "__main__":
    run_job(TaggedConfig, make)
