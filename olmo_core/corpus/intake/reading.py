"""What has been read of a source: its groups of files, and the figures that the report gives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.corpus.intake.exclusions import Entries
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Group:
    """What `groups.read_group` has found in a group of files."""

    folder: Path  # holds the shards and their keys
    documents: Sequence[int]  # of each shard
    text_bytes: int
    files: int  # that were opened
    ids: Mapping[str, int]  # passages by what their id was
    left_out: Mapping[str, int]  # files or texts by reason
    quarantined: int
    excluded: Mapping[str, int]  # documents by the kind of the entry that names them
    matched: Sequence[int]  # lines of the source's list of excluded documents
    sample: str


@dataclass(kw_only=True)
class Reading:
    """A source, and what has been read of its files."""

    source: SourceConfig
    reader: str  # as the recipe names it; one that is brought to the disk is then one of files
    entries: Entries  # of its list of excluded documents
    files_left_out: Mapping[str, int] = field(default_factory=dict[str, int])  # by reason
    groups: list[Group] = field(default_factory=list[Group])
    repeated_ids: int = 0

    @property
    def excluded(self) -> Counter[str]:
        """Return the number of excluded documents by the kind of entry that names them."""
        return sum((Counter(group.excluded) for group in self.groups), Counter[str]())

    @property
    def documents(self) -> int:
        """Return the number of documents."""
        return sum(sum(group.documents) for group in self.groups)

    @property
    def left_out(self) -> str:
        """Return how many files and texts are left out, by reason."""
        found = Counter(self.files_left_out)
        for group in self.groups:
            found.update(group.left_out)
        return "; ".join(f"{number} {reason}" for reason, number in sorted(found.items()))

    def row(self) -> dict[str, Any]:
        """Return the source's figures."""
        ids = Counter[str]()
        for group in self.groups:
            ids.update(group.ids)
        text_bytes = sum(group.text_bytes for group in self.groups)
        return {
            "source": self.source.name,
            "reader": self.reader,
            "documents": self.documents,
            "text_bytes": text_bytes,
            "mean_bytes": round(text_bytes / self.documents),
            "files_read": sum(group.files for group in self.groups),
            "files_written": sum(len(group.documents) for group in self.groups),
            "integer_ids": ids["integer"],
            "missing_ids": ids["missing"],
            "repeated_ids": self.repeated_ids,
            "quarantined": sum(group.quarantined for group in self.groups),
            "excluded": self.excluded.total(),
            "left_out": self.left_out,
        }

    def sample(self) -> str:
        """Return the beginning of a document, of a group in the middle."""
        samples = [group.sample for group in self.groups if group.sample]
        return samples[len(samples) // 2]

    def exclusions(self, folder: Path) -> list[dict[str, Any]]:
        """Return the figures of the list, by kind; write what matched nothing into a folder."""
        unmatched = folder / f"{self.source.name}.txt"
        matched = {line for group in self.groups for line in group.matched}
        rows: list[dict[str, Any]] = []
        with atomic_path(unmatched) as beside, beside.open("w", encoding="utf-8") as out:
            for kind, lines in self.entries.items():
                left = [value for value, line in lines.items() if line not in matched]
                out.writelines(f"{kind}: {value}\n" for value in left)
                rows.append(
                    {
                        "source": self.source.name,
                        "kind": kind,
                        "entries": len(lines),
                        "matched_nothing": len(left),
                        "documents": self.excluded[kind],
                    }
                )
        return rows
