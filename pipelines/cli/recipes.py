"""`olmo recipes`: which recipes there are, what each trains, and what has been made of it."""

from pathlib import Path
from typing import Any

from assets.paths import root
from assets.recipe import base_of, find_recipes, load_recipe
from assets.reporting.texts import amount
from olmo_core.config.duration import Duration
from olmo_core.config.model import count_parameters
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.cli.terminal import EXIT_FAILED, print_json, table, terminal

FIGURES = ("parameters", "stage 1", "ingredients", "made")


def print_recipes(*, as_json: bool) -> int:
    """Print every recipe on the search path; return 1 if one of them cannot be read, else 0."""
    rows = [recipe_row(name, folder, root()) for name, folder in find_recipes().items()]
    # What has been made comes first: it is what a person works on.
    rows.sort(key=lambda row: (row["made"] == 0, row["recipe"]))
    if as_json:
        print_json(rows)
    else:
        columns = ("recipe", *FIGURES, "folder")
        console = terminal()
        console.print(table(columns, map(_cells, rows), right=FIGURES, unwrapped=["recipe"]))
        for row in rows:
            if row["error"]:
                console.print(f"{row['recipe']}: {row['error']}", markup=False, style="red")
    return EXIT_FAILED if any(row["error"] for row in rows) else 0


def recipe_row(name: str, folder: Path, root: Path) -> dict[str, Any]:
    """Return what is known of a recipe without computing a fingerprint.

    `made` counts its assets of which some version is finished below the root, current or not;
    `error` says why it cannot be read.
    """
    made = [asset.name for asset in _folders(root / name) if _is_made(asset)]
    row: dict[str, Any] = {"recipe": name, "folder": str(folder), "made": len(made)}
    row |= {"extends": None, "parameters": None, "stage1": None, "ingredients": None, "error": None}
    try:
        recipe = load_recipe(name)
        config = recipe.stage1_config()
        return row | {
            "extends": base_of(folder),
            "parameters": count_parameters(config.model).total,
            "stage1": _length(config),
            "ingredients": len(recipe.ingredients()),
        }
    except ConfigError as error:
        return row | {"error": str(error)}


def _folders(parent: Path) -> list[Path]:
    return [entry for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []


def _is_made(asset: Path) -> bool:
    """Return whether some version of an asset is finished; of a sweep's, of some partition."""
    versions = [inner for version in _folders(asset) for inner in (version, *_folders(version))]
    return any(RunFolder(version).finished for version in versions)


def _length(config: TrainConfig) -> str:
    """Return how long a training is to go on: `4T tokens`; in epochs, `1 epoch`."""
    duration = Duration.parse(config.max_duration)
    if duration.unit == "epochs":
        return f"{duration.value:g} epoch{'' if duration.value == 1 else 's'}"
    per_unit = config.tokens_per_step if duration.unit == "steps" else 1
    return f"{amount(duration.value * per_unit)} tokens"


def _cells(row: dict[str, Any]) -> list[str]:
    parameters = "" if row["parameters"] is None else amount(row["parameters"])
    folder = row["folder"] + (f" (extends {row['extends']})" if row["extends"] else "")
    counts = (str(row["ingredients"] or ""), str(row["made"] or ""))
    return [row["recipe"], parameters, row["stage1"] or "", *counts, folder]
