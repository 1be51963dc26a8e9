"""`olmo trace checkpoint`: what weights were made of, by source."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from assets.lineage.checkpoints import CheckpointAnswer, Weights, trace_checkpoint
from assets.lineage.runs import Lineage
from olmo_core.lineage.coverage import SourceCount
from pipelines.cli.terminal import plain, print_json, table, terminal


def print_checkpoint(recipe: str, first: str, second: str | None, *, as_json: bool) -> None:
    """Print the documents and tokens of each source that weights were trained on.

    Raises:
        ConfigError: no such recipe or weights.
        InputError: what they were trained on cannot be computed.
    """
    answer = trace_checkpoint(Lineage(recipe), first, second)
    if as_json:
        print_json(checkpoint_entry(recipe, answer))
        return
    console = terminal()
    _print_weights(console, answer.first, answer.first_sources, further=False)
    if answer.second is not None:
        _print_weights(console, answer.second, answer.second_sources, further=True)


def checkpoint_entry(recipe: str, answer: CheckpointAnswer) -> dict[str, Any]:
    """Return what the command prints as JSON."""
    first = _entry(answer.first, answer.first_sources)
    for source in first["sources"]:
        del source["further_documents"], source["further_tokens"]
    second = answer.second and _entry(answer.second, answer.second_sources)
    return {"recipe": recipe, "first": first, "second": second}


def _entry(weights: Weights, sources: Sequence[SourceCount]) -> dict[str, Any]:
    return {
        "weights": weights.label,
        "trained": [{"run": each.run.label, "up_to": each.up_to} for each in weights.trained],
        "masked_instances": weights.masked_instances,
        "unlogged_steps": weights.unlogged_steps,
        "sources": [asdict(each) for each in sources],
    }


def _print_weights(
    console: Console, weights: Weights, sources: Sequence[SourceCount], *, further: bool
) -> None:
    made = ", ".join(f"{each.run.label} up to step {each.up_to:,}" for each in weights.trained)
    console.print(plain(f"{weights.label}: trained by {made}"))
    if weights.masked_instances:
        console.print(f"{weights.masked_instances:,} masked instances are among the tokens.")
    if weights.unlogged_steps:
        console.print(
            f"{weights.unlogged_steps:,} steps are not logged: whether their update was made is "
            "not known, and they are counted.",
            style="yellow",
        )
    total = sum(each.tokens for each in sources)
    columns = ["source", "documents", "tokens", "share"]
    columns += ["further documents", "further tokens"] if further else []
    rows = [
        [plain(each.source), *_cells(each, total, further=further)]
        for each in [*sources, _sum(sources)]
    ]
    console.print(table(columns, rows, right=columns[1:]))


def _cells(each: SourceCount, total: int, *, further: bool) -> list[str]:
    share = each.tokens / total if total else 0.0
    cells = [f"{each.documents:,}", f"{each.tokens:,}", f"{share:.1%}"]
    return cells + ([f"{each.further_documents:,}", f"{each.further_tokens:,}"] if further else [])


def _sum(sources: Sequence[SourceCount]) -> SourceCount:
    return SourceCount(
        source="in all",
        documents=sum(each.documents for each in sources),
        tokens=sum(each.tokens for each in sources),
        further_documents=sum(each.further_documents for each in sources),
        further_tokens=sum(each.further_tokens for each in sources),
    )
