"""`olmo trace index`: the index by which quotes are found."""

from assets.lineage.quotes import index_quotes
from assets.lineage.runs import Lineage
from assets.reporting.texts import amount
from pipelines.cli.terminal import counted, plain, terminal


def print_index(recipe: str) -> None:
    """Build the quotes index of what a recipe's runs read; say how large each is.

    Raises:
        ConfigError: no such recipe, or no tokens.
        InputError: tokens that cannot be searched.
    """
    made = index_quotes(Lineage(recipe), lambda what: counted(what, "tokens"))
    console = terminal()
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
