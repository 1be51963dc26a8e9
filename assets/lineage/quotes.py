"""Which documents hold a quote, word for word, and what saw them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.answers import (
    DocumentAnswer,
    Places,
    answers_of,
    opened_runs,
)
from assets.lineage.runs import Lineage, Untraced
from assets.paths import shared_roots
from olmo_core import environment
from olmo_core.errors import ConfigError
from olmo_core.lineage.quotes.build import INDEX, Built, build_index, token_files
from olmo_core.lineage.quotes.find import Found, QuotePlaces, require_length, scan
from olmo_core.lineage.quotes.holders import Holders
from olmo_core.lineage.quotes.index import QuotesIndex
from olmo_core.lineage.quotes.token_bytes import TokenBytes
from olmo_core.lineage.quotes.token_text import TokenText
from olmo_core.run.folder import RunFolder

QUOTES = Path("cache") / "quotes"  # below a root: an index by the digest of its tokens
# What shows the progress of a task: told what is done, and all.
Progress = Callable[[int, int], None]
Shown = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, kw_only=True)
class QuoteAnswer:
    """What holds a quote, and what saw that."""

    places: int  # where it stands in documents, as far as it was looked for
    documents: int  # that hold it
    unread: int  # places in the index that may hold it too; if any: both are the least it can be
    indexed: int  # places in the index that may hold it, looked at or not
    answers: Sequence[DocumentAnswer]  # of the first documents
    # By file and first token of each of these: the tokens [start, stop) of it that hold the quote.
    quoted: dict[tuple[str, int], list[tuple[int, int]]]
    untraced: Sequence[Untraced]


def quotes_folder(root: Path, tokens: RunFolder) -> Path:
    """Return the folder of the quotes index of a run of `tokens` in a root."""
    return root / QUOTES / tokens.read_result()["digest"]


def index_quotes(lineage: Lineage, shown: Shown) -> list[tuple[RunFolder, Path, Built]]:
    """Build the quotes index of each corpus that the recipe's runs read, and of its tokens.

    Returns:
        Per corpus its run of `tokens`, the folder of the index, and what was done.

    Raises:
        ConfigError: no documents index is made, or another process builds this one.
        InputError: the tokens cannot be read or searched.
    """
    made: list[tuple[RunFolder, Path, Built]] = []
    for documents in documents_indexes(lineage):
        tokens = lineage.tokens_of(documents)
        folder = quotes_folder(lineage.root, tokens)
        with shown(f"tokens/{tokens.path.name}") as progress:
            built = build_index(
                folder,
                tokens=tokens.path,
                digest=tokens.read_result()["digest"],
                tokenizer=lineage.tokenizer_of(tokens),
                processes=environment.processes(),
                progress=progress,
            )
        made.append((tokens, folder, built))
    return made


def trace_quote(
    lineage: Lineage,
    quote: str,
    *,
    limit: int,
    most: int,
    shown: Shown,
    say: Callable[[str], None],
) -> QuoteAnswer:
    """Return the documents that hold a quote, and what saw the first `limit` of them.

    Args:
        lineage: The recipe's.
        quote: `MATCH_BYTES` at least, in UTF-8.
        limit: How many documents are traced; all that are found are counted.
        most: Places of a quotes index that are looked at: with so many, and any that holds the
            quote among them, a search ends. Without an index all are counted.
        shown: Shows the progress of reading all tokens, where there is no quotes index.
        say: Told how to make one.

    Raises:
        ConfigError: no documents index is made, or no document holds the quote.
        InputError: the quote is too short; something is damaged.
    """
    opened, untraced = opened_runs(lineage)
    places: Places = {}
    quoted: dict[tuple[str, int], list[tuple[int, int]]] = {}
    count = documents = unread = indexed = 0
    for folder in documents_indexes(lineage):
        index = lineage.open_index(folder)
        text = open_text(lineage, folder)
        content = text.table.of_text(quote)
        require_length(content)
        quotes = open_quotes(lineage, folder)
        found = None if quotes is None else Found(quotes, text, content)
        scanned = _scanned(lineage, folder, text, content, shown, say)
        holders = Holders(limit - documents)
        for some in scanned if found is None else found:
            holders.add(some, index.bounds(some.file, some.starts))
            # What is rare may hold what is common alone: a search ends with a place, or at the end.
            if found is not None and found.read >= most and holders.places:
                break
        for (file, first), ranges in holders.first.items():
            quoted.setdefault((file, first), []).extend(ranges)
        starts = [(file, start, start + 1) for file, start in holders.first]
        spans = [span for [span] in index.between_each(starts)]
        for document in index.known(spans):
            places.setdefault(document.id, {}).setdefault(folder, []).append(document)
        count, documents = count + holders.places, documents + holders.documents
        if found is not None:
            unread, indexed = unread + found.unread, indexed + found.indexed
    if not documents:
        raise ConfigError(
            f"{lineage.graph.recipe.name}: no document in token files holds {quote!r}"
        )
    return QuoteAnswer(
        places=count,
        documents=documents,
        unread=unread,
        indexed=indexed,
        answers=answers_of(lineage, opened, places, {}),
        quoted=quoted,
        untraced=untraced,
    )


def open_text(lineage: Lineage, documents: Path) -> TokenText:
    """Return the text of the tokens that a run of `documents` is of."""
    tokens = lineage.tokens_of(documents)
    return TokenText(tokens.path, TokenBytes(lineage.tokenizer_of(tokens)))


def open_quotes(lineage: Lineage, documents: Path) -> QuotesIndex | None:
    """Return the quotes index of the tokens that a run of `documents` is of; None: there is none.

    Raises:
        InputError: it is damaged, or of other tokens.
    """
    tokens = lineage.tokens_of(documents)
    for root in (lineage.root, *shared_roots(lineage.root)):
        folder = quotes_folder(root, tokens)
        if (folder / INDEX).is_file():
            digest = tokens.read_result()["digest"]
            return QuotesIndex(folder, tokens=tokens.path, digest=digest)
    return None


def documents_indexes(lineage: Lineage) -> list[Path]:
    """Return the run folder of `documents` of each corpus that the recipe's runs read.

    Raises:
        ConfigError: none is made.
    """
    found = lineage.indexes([run.folder for run in opened_runs(lineage)[0]])
    if not found:
        name = lineage.graph.recipe.name
        raise ConfigError(f"{name}: no documents index is made; olmo run {name} --select documents")
    return found


def _scanned(
    lineage: Lineage,
    documents: Path,
    text: TokenText,
    content: bytes,
    shown: Shown,
    say: Callable[[str], None],
) -> Iterator[QuotePlaces]:
    """Yield where a quote stands by reading all tokens."""
    say(
        f"no quotes index: all tokens are read; olmo trace index {lineage.graph.recipe.name} "
        "builds one, and then a quote takes seconds"
    )
    tokens = lineage.tokens_of(documents).path
    with shown(f"tokens/{tokens.name}") as progress:
        yield from scan(text, token_files(tokens), content, progress)
