"""Look through all run folders for documents that must leave: what holds them, what saw them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assets.corpus.doors import TEXT_ASSETS
from assets.takedown.affected import Affected, listed, of_run
from assets.takedown.elsewhere import elsewhere
from assets.takedown.exposed import Exposed
from assets.takedown.places import Spans, spans_of
from assets.takedown.records import Record, ancestors
from assets.takedown.scored import scored
from assets.takedown.search import Corpus, Target
from olmo_core.corpus.document import DROPPED_FOLDER
from olmo_core.corpus.rows import read_rows
from olmo_core.corpus.tokens.listing import listed_times
from olmo_core.data.manifest import Manifest
from olmo_core.lineage.visits import held_by

Targets = Mapping[str, Target]  # by id


@dataclass(kw_only=True)
class Holdings:
    """All run folders, and the documents that must leave each corpus.

    Attributes:
        published: Documents of published token files that are asked for, of which there are ids
            alone, by the run of `tokens`.

    A run whose corpus is gone is looked into by its index: for the documents of all corpora.
    """

    records: Mapping[Path, Record]
    corpora: Sequence[Corpus]
    asked: Sequence[str]
    root: Path
    published: dict[Path, Spans] = field(default_factory=dict[Path, Spans])
    _spans: dict[Path, Spans] = field(default_factory=dict[Path, Spans])
    _rules: dict[Path, dict[str, str]] = field(default_factory=dict[Path, dict[str, str]])
    _held_out: dict[Path, dict[str, str]] = field(default_factory=dict[Path, dict[str, str]])

    def __post_init__(self) -> None:
        of_raw = {corpus.raw.run.path: corpus for corpus in self.corpora}
        self._targets: dict[Path, Targets] = {}
        for path, record in self.records.items():
            raws = ancestors(self.records, record, "raw")
            found = [of_raw[raw.run.path] for raw in raws if raw.run.path in of_raw]
            self._targets[path] = {
                target.id: target
                for corpus in found
                for target in corpus.targets.values()
                if not target.earlier
            }
        for path, record in self.records.items():
            if record.asset == "tokens" and record.run.finished:
                self._find_places(path, record)

    def _find_places(self, path: Path, record: Record) -> None:
        ids, sha1s = {*self._targets[path], *self.asked}, set[str]()
        if self._is_orphan(record):  # what it was made from cannot be searched
            every = [each for some in self._targets.values() for each in some.values()]
            ids |= {target.id for target in every}
            sha1s = {target.sha1 for target in every}
        spans = self._spans[path] = spans_of(record, self.records, ids, sha1s)
        listed_files = listed_times(path)
        alone = {
            name: rows
            for name, rows in spans.items()
            if any(span.file in listed_files for span in rows)
        }
        if alone:
            self.published[path] = alone

    def _is_orphan(self, record: Record) -> bool:
        """Return whether an asset of text that a run was made from is gone."""
        made_from = [
            each for asset in TEXT_ASSETS for each in ancestors(self.records, record, asset)
        ]
        return any(
            name in TEXT_ASSETS and path not in self.records
            for each in (record, *made_from)
            for name, path in each.inputs.items()
        )

    def known(self) -> set[str]:
        """Return what of that which is asked for stands in token files by its id."""
        return {name for spans in self._spans.values() for name in spans}

    def rows(self) -> Iterator[Affected]:
        """Yield what is affected, in an order in which inputs come first."""
        exposed = Exposed(records=self.records, spans=self.spans)
        look: Mapping[str, Callable[[Record, Targets], Iterator[Affected]]] = {
            "raw": self._raw,
            "near_duplicates": self._near_duplicates,
            "held_out": self._of_held_out,
            "tagged": self._attributes,
            "deduplicated": self._attributes,
            "decontaminated": self._attributes,
            "filtered": self._filtered,
            "tokenizer": self._tokenizer,
            "tokens": self._tokens,
            "documents": self._documents,
        }
        yield from self._earlier()
        for path, record in self.records.items():
            targets = self._targets[path]
            if not record.run.finished and record.asset in look:
                if targets or record.asset == "raw":
                    yield of_run("corpus", record, "text", 0, "not finished: not looked into")
            elif record.asset in TEXT_ASSETS and self._is_orphan(record):
                said = "what it was made from is gone: not looked into"
                yield of_run("corpus", record, "text", 0, said)
            elif record.asset in look:
                yield from look[record.asset](record, targets)
            elif (path / "manifest.json").is_file() and "tokens" in record.inputs:
                yield from self._mix(record)
            else:
                yield from exposed.rows(record)
                yield from scored(record, targets)

        ids = {path: {*found, *self._published_ids(path)} for path, found in self._targets.items()}
        yield from elsewhere(list(self.records.values()), ids, self.root)

    def _published_ids(self, path: Path) -> Iterator[str]:
        """Yield the documents of published token files that a run is made from."""
        for tokens in ancestors(self.records, self.records[path], "tokens"):
            yield from self.published.get(tokens.run.path, ())

    def spans(self, record: Record) -> Spans:
        """Return where the documents stand in the token files that a run reads."""
        return self._spans.get(record.inputs.get("tokens", Path()), {})

    def _raw(self, record: Record, targets: Targets) -> Iterator[Affected]:
        own = [target for target in targets.values() if not target.excluded]
        apart = [target for target in targets.values() if target.excluded]
        if own:
            files = sorted({target.src for target in own})
            yield of_run("corpus", record, "text", len(own), f"in {listed(files)}")
        if apart:
            files = sorted({target.src for target in apart})
            said = f"in {listed(files)}, apart from what is trained on"
            row = of_run("corpus", record, "text", len(apart), said)
            yield replace(row, do="stays, so that each rebuild leaves out their near copies")
        places = sorted({f"{target.source}: {target.file}" for target in own if target.file})
        for place in places:
            source = place.partition(": ")[0]
            documents = sum(f"{target.source}: {target.file}" == place for target in own)
            yield Affected(
                group="sources",
                place=place,
                holds="text",
                documents=documents,
                what=f"the file of source {source} that {record.name} has read",
                do="yours: the corpus leaves it out; delete it where it must not lie",
            )

    def _earlier(self) -> Iterator[Affected]:
        """Yield the files of earlier corpora, which no recipe of the root has made."""
        found: dict[str, set[str]] = {}
        for corpus in self.corpora:
            for target in corpus.targets.values():
                if target.earlier:
                    found.setdefault(target.src, set()).add(target.id)
            for near in corpus.changed:
                yield replace(
                    of_run("sources", near, "names", 0, "its earlier corpora: not looked into"),
                    do="their files are gone, or not those that it has compared with",
                )
        for path, ids in sorted(found.items()):
            yield Affected(
                group="sources",
                place=path,
                holds="text",
                documents=len(ids),
                what="an earlier corpus, which models have read",
                do="take them out of the file: until then a recipe that names it is refused",
            )

    def _near_duplicates(self, record: Record, _: Targets) -> Iterator[Affected]:
        found = [key for each in self.corpora for key in each.clustered.get(record.run.path, ())]
        if found:
            said = "clusters.parquet has their places, no text"
            yield of_run("corpus", record, "names", len(found), said)

    def _left_at_held_out(self, held_out: Path) -> dict[str, str]:
        """Return the role of each document that must leave and is among the held-out ones."""
        if held_out not in self._held_out:
            targets = self._targets[held_out]
            rows = read_rows(held_out / "held_out.jsonl.gz")
            found = {row["id"]: str(row["role"]) for row in rows if row["id"] in targets}
            self._held_out[held_out] = found
        return self._held_out[held_out]

    def _of_held_out(self, record: Record, targets: Targets) -> Iterator[Affected]:
        roles = self._left_at_held_out(record.run.path)
        excluded = {name for name, target in targets.items() if target.excluded}
        remain = [name for name in targets if name not in roles and name not in excluded]
        if remain:
            yield of_run("corpus", record, "text", len(remain), "in documents/")
        for role in sorted(set(roles.values())):
            count = sum(each == role for each in roles.values())
            if role == "scored":
                said = "held-out set: perplexity is measured on them, in paloma/"
                yield of_run("corpus", record, "text", count, said)
            else:
                said = f"{role}: held_out.jsonl.gz names them, with SHA-1 and URL"
                yield of_run("corpus", record, "names", count, said)

    def _remaining(self, record: Record, targets: Targets) -> list[str]:
        """Return the documents that the held-out set has left to an asset that is made from it."""
        held_out = next(ancestors(self.records, record, "held_out"), None)
        gone = {} if held_out is None else self._left_at_held_out(held_out.run.path)
        return [
            name for name, target in targets.items() if name not in gone and not target.excluded
        ]

    def _attributes(self, record: Record, targets: Targets) -> Iterator[Affected]:
        if found := self._remaining(record, targets):
            yield of_run("corpus", record, "names", len(found), "attributes, by id and span")

    def _dropped(self, filtered: Path, targets: Targets) -> dict[str, str]:
        """Return the rule that has dropped each document of these that one has."""
        if filtered not in self._rules:
            files = sorted((filtered / DROPPED_FOLDER).rglob("*.jsonl.gz"))
            rows = (row for path in files for row in read_rows(path) if row["id"] in targets)
            self._rules[filtered] = {row["id"]: str(row["reason"]) for row in rows}
        return self._rules[filtered]

    def _filtered(self, record: Record, targets: Targets) -> Iterator[Affected]:
        remaining = set(self._remaining(record, targets))
        dropped = self._dropped(record.run.path, targets) if remaining else {}
        if kept := remaining - dropped.keys():
            yield of_run("corpus", record, "text", len(kept), "kept, in documents/")
        if dropped:
            said = f"dropped ({listed(sorted(set(dropped.values())))}): named, with SHA-1 and URL"
            yield of_run("corpus", record, "names", len(dropped), said)

    def _tokenizer(self, record: Record, targets: Targets) -> Iterator[Affected]:
        if "filtered" not in record.inputs:
            return  # a released one
        gone = self._dropped(record.inputs["filtered"], targets)
        if found := [name for name in self._remaining(record, targets) if name not in gone]:
            said = "its vocabulary was learnt from the corpus"
            yield of_run("corpus", record, "saw", len(found), said)

    def _tokens(self, record: Record, _: Targets) -> Iterator[Affected]:
        if spans := self._spans.get(record.run.path):
            files = sorted({span.file for rows in spans.values() for span in rows})
            yield of_run("corpus", record, "text", len(spans), f"tokens, in {listed(files)}")

    def _documents(self, record: Record, targets: Targets) -> Iterator[Affected]:
        found = {*targets, *self.spans(record)}
        if found:
            said = "the index: id, URL, SHA-1, place, or why it was left out"
            yield of_run("corpus", record, "names", len(found), said)

    def _mix(self, record: Record) -> Iterator[Affected]:
        if not (spans := self.spans(record)):
            return
        manifest = Manifest.read(record.run.path / "manifest.json", root=record.run.path)
        held = {
            name: [n for span in rows for n in held_by(manifest, span)]
            for name, rows in spans.items()
        }
        held = {name: lengths for name, lengths in held.items() if lengths}
        if held:
            ranges = sum(map(len, held.values()))
            tokens = sum(map(sum, held.values()))
            parts = f"{ranges:,} range{'s' * (ranges != 1)}"
            said = f"the manifest holds {tokens:,} tokens of theirs, in {parts}"
            yield of_run("corpus", record, "names", len(held), said)
