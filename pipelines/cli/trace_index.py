"""`olmo trace index`: what finds quotes, and the documents of large batches, fast."""

from assets.lineage.place_blocks import index_blocks
from assets.lineage.quotes import documents_indexes, index_quotes
from assets.lineage.runs import Lineage
from assets.reporting.texts import amount
from pipelines.cli.terminal import counted, plain, terminal


def print_index(recipe: str) -> None:
    """Build what a recipe's runs read is looked up in: places in blocks, and the quotes index.

    Raises:
        ConfigError: no such recipe, or no tokens.
        InputError: tokens that cannot be searched.
    """
    lineage, console = Lineage(recipe), terminal()
    for documents in documents_indexes(lineage):
        name = f"documents/{documents.name}"
        with counted(name, "documents") as progress:
            folder, blocks = index_blocks(lineage.root, documents, progress)
        console.print(
            plain(
                f"{name}: the places of {amount(blocks.documents)} documents; "
                f"{amount(blocks.size_bytes)}B, {blocks.size_bytes / blocks.documents:.1f} per "
                f"document ({folder})"
            )
        )
    made = index_quotes(lineage, lambda what: counted(what, "tokens"))
    for tokens, folder, built in made:
        left = f", {built.reused} of them as they were" if built.reused else ""
        console.print(
            plain(
                f"tokens/{tokens.path.name}: {amount(built.tokens)} tokens, "
                f"{amount(built.postings)} fingerprints in {built.shards} shards{left}; "
                f"{amount(built.size_bytes)}B, {built.size_bytes / built.tokens:.2f} per token "
                f"({folder})"
            )
        )
