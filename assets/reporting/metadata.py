"""A finished run as Dagster metadata: what a person wants to see without opening a file."""

import base64
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.execution.produce import Produced
from olmo_core.run.accepted import Acceptance

SAMPLE_CHARACTERS = 600


def metadata(
    produced: Produced, *, plots: Mapping[str, bytes], accepted: Acceptance | None = None
) -> dict[str, dg.MetadataValue]:
    """Numbers, tables, samples and plots of a run, then where it lies and what it cost.

    Args:
        produced: The finished run.
        plots: Further pictures (PNG bytes) by name, beside those that the job made.
        accepted: Why it counts, where it is made of something else than would be used now.
    """
    report, result = produced.result["report"], produced.result
    pictures = {
        name: (produced.folder.path / path).read_bytes() for name, path in report["plots"].items()
    }
    shown: dict[str, dg.MetadataValue] = {
        name: _number(value) for name, value in report["numbers"].items()
    }
    shown |= {name: _picture(name, png) for name, png in {**pictures, **plots}.items()}
    shown |= {name: _table(rows) for name, rows in report["tables"].items() if rows}
    shown |= {
        f"{name} samples": _samples(texts) for name, texts in report["samples"].items() if texts
    }
    if accepted is not None:
        shown["accepted"] = dg.MetadataValue.text(str(accepted))
    if produced.reused_from is not None:
        shown["reused_from"] = dg.MetadataValue.text(produced.reused_from)
    return shown | {
        "path": dg.PathMetadataValue(str(produced.folder.path)),
        "fingerprint": dg.MetadataValue.text(result["fingerprint"]),
        "digest": dg.MetadataValue.text(result["digest"]),
        "how": dg.MetadataValue.text(produced.how),
        "work_seconds": dg.MetadataValue.float(float(result["work_seconds"])),
        "start_seconds": dg.MetadataValue.float(float(result["start_seconds"])),
        "peak_memory_bytes": dg.MetadataValue.int(int(result["peak_memory_bytes"])),
        "attempts": dg.MetadataValue.int(int(result["attempt"])),
    }


def _number(value: int | float | str | None) -> dg.MetadataValue:
    if isinstance(value, bool) or value is None:
        return dg.MetadataValue.text(str(value))
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(value) if isinstance(value, float) else _text(value)


def _text(value: str) -> dg.MetadataValue:
    return dg.MetadataValue.text(value)


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    kinds = {name: _column_type([row.get(name) for row in rows]) for name in columns}
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _cell(row.get(name)) for name in columns}) for row in rows],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name=name, type=kinds[name]) for name in columns]
        ),
    )


def _column_type(values: Sequence[Any]) -> str:
    present = [value for value in values if value is not None]
    if present and all(isinstance(v, int) and not isinstance(v, bool) for v in present):
        return "int"
    if present and all(isinstance(v, int | float) for v in present):
        return "float"
    return "string"


def _samples(texts: Sequence[str]) -> dg.MetadataValue:
    """Texts as found, in blocks of code by indentation: nothing in a text can end its block."""
    blocks = [
        textwrap.indent(
            text[:SAMPLE_CHARACTERS] + "…" * (len(text) > SAMPLE_CHARACTERS), "    ", lambda _: True
        )
        for text in texts
    ]
    return dg.MetadataValue.md("\n\n***\n\n".join(blocks))


def _picture(name: str, png: bytes) -> dg.MetadataValue:
    encoded = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{encoded})")
