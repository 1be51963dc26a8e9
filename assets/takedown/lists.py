"""Write what must leave: a list per source, its key in corpus.yaml, and the ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from assets.corpus.doors import has_text
from assets.corpus.exclusions import KEY, placed_sources, source_trees, takedown_folder
from assets.recipe import Recipe
from assets.takedown.ledger import FOLDER, TakenDown, write_ledger
from assets.takedown.recipe_key import add_source_key
from assets.takedown.search import ASKED, PIECE, Target
from olmo_core.corpus.intake.exclusions import Entries, read_entries
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import ConfigError
from olmo_core.files import write_atomic
from olmo_core.run.folder import locked

HEAD = "# Documents that must not be trained on: docs/takedown.md. Written by olmo takedown.\n"


@dataclass(frozen=True, kw_only=True)
class SourceList:
    """The list of a source, and what is to be added to it."""

    source: SourceConfig  # that names it, or will
    path: Path
    recipe_file: Path  # corpus.yaml that has the source
    has_key: bool  # the source names it
    entries: Sequence[str]  # lines that it lacks, comments among them
    documents: int  # that these lines are for

    @property
    def recipe_line(self) -> str:
        """Return the line that the source's mapping has, or gets."""
        return f"{KEY}: {FOLDER}/{self.path.name}"


def planned_lists(recipe: Recipe, targets: Sequence[Target]) -> list[SourceList]:
    """Return the lists of those sources of a recipe that lack any entry; writes nothing.

    Args:
        recipe: Whose corpus the documents must leave.
        targets: The documents, of whatever corpus; those of other sources are passed over.

    Raises:
        ConfigError: a source names a list that is not there.
        InputError: a list that cannot be read.
    """
    if not has_text(recipe):
        return []
    trees = source_trees(recipe)
    found: list[SourceList] = []
    for source in placed_sources(recipe):
        own = [target for target in targets if target.source == source.name and not target.earlier]
        if not own:
            continue
        file = Path(trees[source.name].file).absolute()
        path = Path(source.exclude_documents) if source.exclude_documents else None
        path = path or file.parent / FOLDER / f"{source.name}.txt"
        # A list without its key is left by a write that was cut short.
        listed = (
            source if source.exclude_documents else replace(source, exclude_documents=str(path))
        )
        known = (
            read_entries(listed)
            if path.is_file()
            else read_entries(replace(source, exclude_documents=""))
        )
        missing = _lines(own, known)
        lines = [line for each in missing for line in each]
        if lines or not source.exclude_documents:
            found.append(
                SourceList(
                    source=source,
                    path=path,
                    recipe_file=file,
                    has_key=bool(source.exclude_documents),
                    entries=lines,
                    documents=len(missing),
                )
            )
    return found


def _lines(targets: Sequence[Target], known: Entries) -> list[list[str]]:
    """Return the lines that name documents and are not in their list yet, by document."""
    there = {f"{kind}: {value}" for kind, values in known.items() for value in values}
    found: list[list[str]] = []
    for target in targets:
        lines = [line for line in _entries(target) if line not in there]
        if lines:
            # ascii(): no id ends a line, whatever it holds.
            found.append([f"# {ascii(target.id)[1:-1]}: {target.why}", *lines])
            there.update(lines)
    return found


def _entries(target: Target) -> Iterator[str]:
    """Yield the entries that name a document: its text, and what was asked for by name."""
    yield f"sha1: {target.sha1}"
    name = target.name
    if target.why in (ASKED, PIECE):
        # A text that is cut otherwise has other pieces; its own id stays.
        ids = [name.text] if name.piece and not name.mark else []
        ids += [target.of] if target.of in name.asked_by else []
        yield from (f"id: {each}" for each in ids if _fits_a_line(each))
    if target.why == ASKED and target.of == target.url and _fits_a_line(target.of):
        yield f"url: {target.of}"


def _fits_a_line(value: str) -> bool:
    return value == value.strip() and len(value.splitlines()) == 1


def write_lists(
    lists: Sequence[SourceList], recipe: Recipe, documents: Sequence[TakenDown]
) -> None:
    """Write the lists, then the keys that name them, then the ledger.

    Each file is whole or as it was. A write that is cut short is completed by the next.

    Raises:
        ConfigError: a key cannot be added to corpus.yaml; the lists are written.
    """
    folder = takedown_folder(recipe)
    with locked(folder / FOLDER / ".lock"):
        for each in lists:
            if each.entries:
                before = each.path.read_bytes().decode() if each.path.is_file() else HEAD
                ended = before if before.endswith("\n") or not before else f"{before}\n"
                each.path.parent.mkdir(exist_ok=True)
                write_atomic(each.path, ended + "".join(f"{line}\n" for line in each.entries))
        write_ledger(folder, documents)
        by_hand: list[str] = []
        for each in lists:
            if not each.has_key:
                try:
                    add_source_key(
                        each.recipe_file, each.source.name, KEY, f"{FOLDER}/{each.path.name}"
                    )
                except ConfigError as error:
                    by_hand.append(str(error))
        if by_hand:
            raise ConfigError("\n".join(by_hand))
