"""Asset `tagged`: what the dolma toolkit's taggers say of each document, one row per document.

After it runs, `attributes/tags/<source>/*.jsonl.gz` stand row for row beside the documents of
`held_out`. Every source has its own taggers: rules made for prose would delete code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import read_attributes, read_documents, shards, source_names
from olmo_core.corpus.toolkit import (
    ToolkitCommand,
    check_mirror,
    map_steps,
    rewrite_attributes,
)
from olmo_core.errors import ConfigError
from olmo_core.files import read_json
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

EXPERIMENT = "tags"

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
    """Tag every file in a process of its own, as many at a time as the job may use."""
    documents = inputs["held_out"] / "documents"
    check_sources(config.taggers, documents, "tagged: taggers")
    with job.timed("check documents"):
        table = {source: _figures(documents / source) for source in source_names(documents)}
    files = shards(documents)
    sizes = {_step_name(documents, path): path.stat().st_size for path in files}
    with job.timed("dolma tag"):
        # The largest first, so that no long file is left for the end.
        steps = sorted(
            (_tag_step(documents, path, config) for path in files),
            key=lambda step: -sizes[step.name],
        )
        reads = read_json(inputs["held_out"] / "result.json")["digest"]
        chunks = map_steps(steps, documents, job, sizes=sizes, reads=reads)
    with job.timed("check attributes"):
        written = job.scratch / "attributes"
        for chunk in chunks:
            _link_files(chunk / "view" / "attributes" / EXPERIMENT, written)
        check_mirror(documents, written)
        rewrite_attributes(written, job.folder / "attributes" / EXPERIMENT)
        samples = _samples(job.folder / "attributes" / EXPERIMENT)
    rows = [
        {"source": source, "taggers": ", ".join(config.taggers[source]), **figures}
        for source, figures in table.items()
    ]
    return Report(
        numbers={
            "documents": sum(int(row["documents"]) for row in rows),
            "text_bytes": sum(int(row["text_bytes"]) for row in rows),
            "files": len(files),
            "taggers": len({name for names in config.taggers.values() for name in names}),
        },
        tables={"sources": rows},
        samples={"attributes": samples},
        data={"experiment": EXPERIMENT},
    )


def _link_files(source: Path, target: Path) -> None:
    """Link to every file of a tree from the same place of another."""
    for path in source.rglob("*"):
        if path.is_file():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


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


def _figures(folder: Path) -> dict[str, int]:
    """Read all of a source before the toolkit does: it would pass over half of a broken file."""
    sizes = [document.text_bytes for path in shards(folder) for _, document in read_documents(path)]
    return {"documents": len(sizes), "text_bytes": sum(sizes)}


def _step_name(documents: Path, path: Path) -> str:
    return "tag-" + str(path.relative_to(documents)).replace("/", "-").removesuffix(".jsonl.gz")


def _tag_step(documents: Path, path: Path, config: TaggedConfig) -> ToolkitCommand:
    name = path.relative_to(documents)
    return ToolkitCommand(
        name=_step_name(documents, path),
        kind="tag",
        config={
            "documents": [f"view/documents/{name}"],
            "destination": [f"view/attributes/{EXPERIMENT}/{name.parent}"],
            "metadata": f"metadata/{name.parent}/{path.name.split('.')[0]}",
            "experiment": EXPERIMENT,
            "taggers": list(config.taggers[name.parts[0]]),
        },
    )


def _samples(attributes: Path) -> Sequence[str]:
    """One document's scores per source (spans over single lines left out)."""
    samples: list[str] = []
    for source in source_names(attributes):
        _, document_id, values = next(iter(read_attributes(shards(attributes / source)[0])))
        scores = {key: spans[0][2] for key, spans in values.items() if len(spans) == 1}
        lines = [f"{key} = {score:.4g}" for key, score in sorted(scores.items())]
        samples.append("\n".join([document_id, *lines]))
    return samples


if __name__ == "__main__":
    run_job(TaggedConfig, make)
