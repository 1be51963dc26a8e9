"""The check `up_to_date` of each asset of the main line: what `olmo plan` says, in Dagster's UI.

A run that makes or reports an asset reports it as passed. Between runs the sensor of the same name
reports what the recipe's files say by then (`pipelines/up_to_date.py`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.staleness import AssetState

NAME = "up_to_date"
DESCRIPTION = "It is as it would be made now; if not, why (`olmo plan`)."


def up_to_date_spec(key: Sequence[str]) -> dg.AssetCheckSpec:
    """Return the check of an asset: one that its own step passes, without a step of its own."""
    return dg.AssetCheckSpec(NAME, asset=dg.AssetKey(key), description=DESCRIPTION)


def just_made() -> dg.AssetCheckResult:
    """Return what the step that has made or found an asset says of it."""
    return dg.AssetCheckResult(check_name=NAME, passed=True, description="up to date")


def evaluation(recipe: str, state: AssetState) -> dg.AssetCheckEvaluation:
    """Return what is reported of an asset without a run: a warning unless it is up to date.

    What a job is at work on is not up to date, and its result is reported by its own run.
    """
    lines = "; ".join(state.why)
    metadata: dict[str, Any] = {"state": state.state}
    if state.why:
        metadata["why"] = dg.MetadataValue.md("\n".join(f"- `{line}`" for line in state.why))
    for name in ("accepted", "reused_from"):
        if (value := getattr(state, name)) is not None:
            metadata[name] = value
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([recipe, state.asset]),
        check_name=NAME,
        passed=state.up_to_date,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{state.state}: {lines}" if lines else state.state,
        metadata=metadata,
        blocking=False,
    )
