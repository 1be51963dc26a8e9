"""What the asset `perplexity` shows: figures by model and source, the sets, what is left out."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.errors import listed
from olmo_core.evals.perplexity.sets import PALOMA_SIZES
from olmo_core.evals.perplexity.survey import Survey
from olmo_core.run.job import Report

log = logging.getLogger("olmo")


def perplexity_report(
    rows: Sequence[Mapping[str, Any]],
    surveys: Sequence[Survey],
    left_out: Sequence[Mapping[str, str]],
    *,
    cached: int,
) -> Report:
    """Return the overall figures, and bits per byte by model and source, set by set.

    Args:
        rows: The figures of all models.
        surveys: The sets.
        left_out: model, domain, metric and reason of each domain that a metric leaves out.
        cached: Scores of a source by a model that were not made now.
    """
    sets = [{**survey.row(), "note": _note(survey)} for survey in surveys]
    without = _left_out_table(left_out)
    for row in (*(row for row in sets if row["note"]), *without):
        log.warning("%s", ", ".join(f"{key}: {value}" for key, value in row.items() if value))
    counted = ("sources", "domains", "documents", "empty_documents", "bytes")
    names = [survey.config.name for survey in surveys]
    return Report(
        numbers={
            "models": len({row["model"] for row in rows}),
            "sets": len(sets),
            **{key: sum(row[key] for row in sets) for key in counted},
            "domains_left_out": len({line["domain"] for line in left_out}),
            "rows": len(rows),
            "scores_from_cache": cached,
        },
        tables={
            **{f"bits_per_byte {name}": _bits_table(rows, name) for name in names},
            "sets": sets,
            **({"left out": without} if without else {}),
        },
        data={
            "data_sha256": {survey.config.name: survey.sha256 for survey in surveys},
            "left_out": left_out,
        },
    )


def _bits_table(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return bits per byte of a set by model: of all documents, mean of the sources, each source.

    Names of the first two hold blanks, which those of sources do not.
    """
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        of, _, source = row["task"].partition("/")
        if of != name or "/" in source:
            continue
        cells = table.setdefault(row["model"], {"model": row["model"]})
        titles = {
            "bits_per_byte": source or "all documents",
            "macro_bits_per_byte": "mean of sources",
        }
        if row["metric"] in titles:
            cells[titles[row["metric"]]] = round(row["value"], 4)
    return [*table.values()]


def _left_out_table(left_out: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return one row per model, set and metric: how many domains it leaves out, the first, why."""
    groups: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for line in left_out:
        name = line["domain"].partition("/")[0]
        groups.setdefault((line["model"], name, line["metric"]), []).append(line)
    return [
        {
            "model": model,
            "set": name,
            "metric": metric,
            "domains_left_out": len(lines),
            "which": listed(
                f"{line['domain'].partition('/')[2]} ({line['reason']})" for line in lines
            ),
        }
        for (model, name, metric), lines in groups.items()
    ]


def _note(survey: Survey) -> str:
    """Return which sources of a set are empty, and how one that should be Paloma differs."""
    notes: list[str] = []
    if empty := [source.name for source in survey.sources if not source.documents]:
        notes.append(f"no documents in {listed(empty)}")
    row = survey.row()
    if survey.config.kind == "paloma" and (row["sources"], row["domains"]) not in PALOMA_SIZES:
        sizes = " or ".join(f"{domains} in {sources}" for sources, domains in PALOMA_SIZES)
        notes.append(f"{row['domains']} domains in {row['sources']} sources; Paloma has {sizes}")
    return "; ".join(notes)
