"""The sections of a model card on data: what there was, what was planned, what was read."""

from collections.abc import Mapping
from typing import Any

from olmo_core.release.card_facts import Facts
from olmo_core.release.card_tables import table

FILTERED = "All documents after deduplication and filters"


def data(facts: Facts, licences: Mapping[str, str]) -> list[str]:
    """Return the parts of the section: per mix the tokens of each source, planned and read."""
    parts: list[str] = []
    for name, result in facts.results.items():
        rows = result["report"].get("tables", {}).get("sources")
        if rows is None:
            continue
        readers = [model for model, mix in facts.mixes.items() if mix == name]
        if readers:
            rows = [_row_of_a_mix(row, readers, facts) for row in rows]
        parts += [data_title(name, facts.results), table(rows)]
    read = {model: sum(sources.values()) for model, sources in facts.read.items()}
    parts.append(
        "Read is what the steps of a run have seen: whole windows, a token as often as it was "
        "read. In all: " + ", ".join(f"`{model}` {n:,} tokens" for model, n in read.items()) + "."
    )
    if licences:
        rows = [{"source": source, "licence": licence} for source, licence in licences.items()]
        parts += ["Sources are under these licences, as the recipe says:", table(rows)]
    return parts


def _row_of_a_mix(row: Mapping[str, Any], readers: list[str], facts: Facts) -> dict[str, Any]:
    """Return what is shown of a source of a mix: the plan, one epoch of it, what was read."""
    shown = {key: row[key] for key in ("source", "planned_tokens") if key in row}
    shown["tokens_of_an_epoch"] = row["tokens"]
    for model in readers:
        read = facts.read[model]
        shown[f"read_by_{model}" if len(readers) > 1 else "read_tokens"] = read[row["source"]]
    if len(readers) == 1 and (total := sum(facts.read[readers[0]].values())):
        shown["share_of_read"] = round(shown["read_tokens"] / total, 4)
    return shown


def data_title(name: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the title of a table of sources; that of a mix says which ingredients read it."""
    if name == "stage1_mix":
        return "Stage 1:"
    if name == "tokens":
        report = results[name]["report"]
        sources = [row["source"] for row in report["tables"]["sources"]]
        published = report.get("data", {}).get("published", ())
        if not published:
            return f"{FILTERED}:"
        if set(sources) == {*published}:
            return "All documents of published token files, as they are:"
        return (
            f"{FILTERED}, and those of published token files as they are ({', '.join(published)}):"
        )
    ingredients = [model for model in results if model.startswith("stage2_ingredient")]
    readers = [f"`{model}`" for model in ingredients if name in results[model]["inputs"]]
    some = "" if len(readers) == len(ingredients) else f" ({', '.join(readers)})"
    return f"Stage 2{some}:"
