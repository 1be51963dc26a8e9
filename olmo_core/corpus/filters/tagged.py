"""Asset `tagged`: what the dolma toolkit's taggers say of each document, one row per document.

After it runs, `attributes/tags/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`. Every source has its own taggers: rules made for prose would delete code.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import (
    Document,
    read_attributes,
    read_documents,
    shards,
    source_names,
    totals,
)
from olmo_core.corpus.filters.names import check_sources
from olmo_core.corpus.filters.scores import Scores
from olmo_core.corpus.filters.taggers import FastText, Taggers, taggers_identity
from olmo_core.corpus.rows import write_rows
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    ToolkitError,
    link_view,
    marked_files,
    run_steps,
)
from olmo_core.files import link_files, read_json, write_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report
from olmo_core.tasks.map import Task, map_tasks

EXPERIMENT = "tags"
SCORES = "scores.json"  # of a chunk's documents, beside their attributes
COUNTS = ("documents", "text_bytes")  # of a source
# Of files. Each starts the toolkit, for a second; each is done again if its process is lost.
CHUNKS_PER_PROCESS = 4  # where nodes share the work
CHUNK_BYTES = 8_000_000  # of compressed documents, on one machine


@dataclass(frozen=True, kw_only=True)
class TaggedConfig(Taggers):
    """Section `tagged` of corpus.yaml.

    Raises:
        ConfigError: no tagger for a source, an unknown one, or one name for two.
    """

    fasttext: Mapping[str, FastText] = field(default_factory=dict[str, FastText])
    own_taggers: Mapping[str, str] = field(default_factory=dict[str, str])


def make(config: TaggedConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Tag and check the files in chunks, each a task."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.taggers, documents, "tagged: taggers")
    counts: dict[str, Counter[str]] = {name: Counter() for name in source_names(documents)}
    with job.timed("tag"):
        reads = read_json(inputs["held_out"] / "result.json")["digest"]
        chunks = _tag(documents, config, job, reads=reads)
    files: dict[str, Path] = {}
    scores = _no_scores(config)
    for chunk, found in chunks:
        for source, counted in found.items():
            counts[source].update(counted)
        paths = shards(chunk)
        files |= {path.relative_to(chunk).as_posix(): path for path in paths}
        scores.join(read_json(chunk / SCORES))
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
        tables={"sources": table, **({"scores": scores.table()} if config.fasttext else {})},
        samples={"attributes": _samples(target)},
        data={"experiment": EXPERIMENT, **taggers_identity(config)},
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
    """Write the attributes of some files, under their names in the folder `out`, and `SCORES`.

    A toolkit process tags them. They are read whole before, since it would pass over half of a
    broken file, and each row is held against its document after.

    Returns:
        Source -> `COUNTS` of its documents in these files.

    Raises:
        ToolkitError: a row too few or too many, or of another document; a span of a user's tagger
            that is none.
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
    run_steps([steps], working, processes=processes, taggers=config.plan())
    scores = _no_scores(config)
    for name, rows in marked_files(view / "documents", view / "attributes" / EXPERIMENT):
        # Written anew: the toolkit's gzip holds the time.
        found = (_tags_row(document, tags, config) for document, (tags,) in rows)
        write_rows(out / name, _counted(found, name.parts[0], scores))
    write_json(out / SCORES, scores.facts(), durable=False)  # as all of `out`, by `map_tasks`
    shutil.rmtree(working)
    return counts


def _no_scores(config: TaggedConfig) -> Scores:
    return Scores(f"{EXPERIMENT}__{name}__" for name in config.fasttext)


def _counted(
    rows: Iterable[dict[str, Any]], source: str, scores: Scores
) -> Iterator[dict[str, Any]]:
    for row in rows:
        scores.add(source, row["attributes"])
        yield row


def _tags_row(document: Document, tags: dict[str, Any], config: TaggedConfig) -> dict[str, Any]:
    """Return a row of attributes; what a user's own taggers say is checked."""
    for name in config.own_taggers:
        for key in [key for key in tags if key.startswith(f"{EXPERIMENT}__{name}__")]:
            for start, end, score in tags[key]:
                # The toolkit writes null where a score is not finite.
                if score is None or not 0 <= start <= end <= len(document.text):
                    raise ToolkitError(
                        f"tagged: own_taggers: {name}: {key} of {document.id!r} is "
                        f"{[start, end, score]}; expected a span [start, end, score] within the "
                        f"text's {len(document.text)} characters, with a finite score"
                    )
    return {"id": document.id, "attributes": tags}


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
