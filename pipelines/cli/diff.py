"""`olmo diff`: in what recipes, runs, checkpoints and exports differ, the cause first."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from assets.fingerprint import ABSENT
from assets.lineage.causes import Found
from assets.lineage.differences import Differences, ScoredPair, compare_sides
from assets.lineage.sides import Side, find_side, told_apart
from assets.paths import root
from assets.staleness import change_line
from olmo_core.errors import ConfigError
from olmo_core.files import write_atomic
from olmo_core.lineage.losses import read_losses
from olmo_core.lineage.weights import ComparedWeights, WeightDifference
from olmo_core.monitor.curves import FORMATS, Curve, Panel, characters, picture
from pipelines.cli.compare import METHOD, entries, print_compared
from pipelines.cli.diff_documents import print_documents
from pipelines.cli.terminal import print_json, table, terminal

MOST_TENSORS = 10  # that are printed; --json has all
MOST_LINES = 6  # of a section and an asset that are printed; --json has all
WIDEST = 100  # columns of a chart in a terminal
MOST_POINTS = 2000  # of a curve that are drawn
AREAS = {
    "module": "jobs of two kinds, so neither their values nor their code and data are compared",
    "config": "configuration",
    "code": "code",
    "packages": "packages",
    "inputs": "inputs",
}


def print_differences(names: Sequence[str], out: Path | None, *, as_json: bool) -> None:
    """Print in what each of the others differs from the first; with `out` draw the losses there.

    Raises:
        ConfigError: fewer than two names; nothing of a name; the file's suffix is of no picture, or
            there are no losses to draw.
        InputError: a file that is read is damaged.
    """
    if len(names) < 2:
        raise ConfigError(f"found {len(names)} name; expected two or more: olmo diff demo demo_lr")
    suffix = None if out is None else out.suffix.removeprefix(".").lower()
    if suffix is not None and suffix not in FORMATS:
        raise ConfigError(f"--out: {out}: expected a name that ends in .png or .svg")
    sides = told_apart([find_side(name, root()) for name in names])
    found = [compare_sides(sides[0], side, root()) for side in sides[1:]]
    panels = _panels(found)
    if out is not None:
        if not panels:
            raise ConfigError(f"--out: {out}: no losses of two of these; there is nothing to draw")
        write_atomic(out, picture(panels, str(suffix)))
    if as_json:
        print_json([entry(each) for each in found])
        return
    console = terminal()
    for each in found:
        _print(console, each)
    if out is None:
        width = min(console.width, WIDEST)
        for panel in panels:
            console.print(Text(characters(panel, width=width)))
    else:
        console.print(Text(f"losses: {out}"))


def _print(console: Console, found: Differences) -> None:
    console.print(Text(f"{found.before.name} → {found.after.name}", style="bold"))
    for area, title in AREAS.items():
        _print_found(
            console, title, [each for each in found.causes.own if each.change.area == area]
        )
    if found.causes.because:
        console.print(Text("because of inputs that differ", style="bold"))
        for asset, inputs in found.causes.because.items():
            console.print(Text(f"  {asset}: because of {', '.join(inputs)}"))
    _print_found(console, "what the model cards say", found.causes.card)
    if found.causes.same:
        console.print("nothing that decides a result differs: equal fingerprints")
    _print_found(console, "data", found.data)
    if found.documents is not None:
        print_documents(console, found.documents)
    _print_found(console, "environment", found.environment)
    if found.losses:
        console.print(table(*_loss_table(found), right=LOSS_COLUMNS[1:], title="losses"))
    _print_scores(console, found.scores)
    if found.scores and found.before.asset is None and found.after.asset is None:
        recipes = f"{found.before.recipe} {found.after.recipe}"
        console.print(Text(f"scores of checkpoints over tokens: olmo curves {recipes}"))
    for name, weights in found.weights.items():
        _print_weights(console, name, weights, whole=len(found.weights) > 1)
    if len(found.weights) > 1:
        console.print("tensors and layers: olmo diff of two runs, or --json")
    for note in found.notes:
        console.print(Text(note, style="yellow"))


def _print_found(console: Console, title: str, found: Sequence[Found]) -> None:
    """Print the lines of a section; of assets with very many only the first of them."""
    of_assets: dict[str, list[str]] = {}
    for each in found:
        of_assets.setdefault(", ".join(each.assets), []).append(line(each))
    if found:
        console.print(Text(title, style="bold"))
    for assets, lines in of_assets.items():
        for text in lines[:MOST_LINES]:
            console.print(Text(f"  {text}"))
        if (more := len(lines) - MOST_LINES) > 0:
            console.print(Text(f"  {assets}: and {more} more: --json"))


def line(found: Found) -> str:
    """Return a difference as a line: `stage1: optimizer.learning_rate: 0.008 → 0.006`."""
    text = change_line(found.change)
    return f"{', '.join(found.assets)}: {text.removeprefix(f'{found.change.area} ')}"


LOSS_COLUMNS = ("training", "steps", "last step", "last loss", "part at", "largest", "at step")


def _loss_table(found: Differences) -> tuple[Sequence[str], Iterator[list[str]]]:
    rows = (
        [
            name,
            str(each.steps),
            " → ".join(map(str, dict.fromkeys(each.last))),
            " → ".join(f"{loss:.4f}" for loss in each.last_losses),
            "never" if each.first_step is None else f"step {each.first_step}",
            f"{each.largest:+.4f}",
            str(each.largest_step),
        ]
        for name, each in found.losses.items()
    )
    return LOSS_COLUMNS, rows


def _print_weights(console: Console, name: str, weights: ComparedWeights, *, whole: bool) -> None:
    """Print how far the weights of a model lie apart; with `whole` of all together alone."""
    columns = ("tensor", "relative L2 difference")
    if weights.tensors:
        title = (
            f"weights of {name}: {_relative(weights.whole)} of all; "
            f"{weights.equal} of {len(weights.tensors)} tensors are equal"
        )
        layers = [[each.name, _relative(each)] for each in weights.layers]
        if weights.equal < len(weights.tensors) and not whole:
            largest = [each for each in weights.tensors if each.difference][:MOST_TENSORS]
            rows = [[each.name, _relative(each)] for each in largest]
            console.print(table(columns, rows, right=columns[1:], title=title))
            console.print(table(("layer", columns[1]), layers, right=columns[1:]))
        else:
            console.print(Text(title))
    for each in weights.not_compared[:MOST_TENSORS]:
        console.print(Text(f"not compared: {each}"))
    if (more := len(weights.not_compared) - MOST_TENSORS) > 0:
        console.print(f"and {more} more: --json")


def _relative(each: WeightDifference) -> str:
    return "not defined" if each.relative is None else f"{each.relative:.4g}"


def _print_scores(console: Console, pairs: Sequence[ScoredPair]) -> None:
    for each in pairs:
        print_compared(console, each.compared)
    if pairs:
        console.print(METHOD, markup=False)
    for before, after in ((each.before, each.after) for each in pairs):
        if before.recipe == after.recipe:
            command = f"olmo compare {before.recipe} {before.model} {after.model} --documents"
            console.print(Text(f"documents whose answers flipped: {command}"))


def _panels(found: Sequence[Differences]) -> list[Panel]:
    """Return a panel per training, with a curve per side."""
    curves: dict[str, dict[str, Curve]] = {}
    for each in found:
        for name in each.losses:
            for side, asset in zip((each.before, each.after), _assets(name), strict=True):
                curve = _curve(side, asset)
                if curve is not None:
                    curves.setdefault(_assets(name)[0], {})[curve.name] = curve
    return [
        Panel(title=f"{name}: training loss", label="nats per token", curves=list(of.values()))
        for name, of in curves.items()
    ]


def _assets(title: str) -> tuple[str, str]:
    first, _, second = title.partition(" → ")
    return first, second or first


def _curve(side: Side, asset: str) -> Curve | None:
    losses = read_losses(side.runs[asset], up_to=side.step)
    if losses is None:
        return None
    losses = losses.thinned(MOST_POINTS)
    return Curve(
        name=side.name,
        tokens=losses.tokens,
        values=losses.losses,
        errors=[None] * len(losses.tokens),
    )


def entry(found: Differences) -> dict[str, Any]:
    """Return what `--json` says of two sides."""
    return {
        "before": _side(found.before),
        "after": _side(found.after),
        "causes": [_found(each) for each in found.causes.own],
        "because": {name: list(inputs) for name, inputs in found.causes.because.items()},
        "card": [_found(each) for each in found.causes.card],
        "data": [_found(each) for each in found.data],
        "documents": None if found.documents is None else asdict(found.documents),
        "environment": [_found(each) for each in found.environment],
        "losses": {
            name: {
                "steps": each.steps,
                "last_step": each.last,
                "last_loss": each.last_losses,
                "first_step_apart": each.first_step,
                "largest": each.largest,
                "largest_step": each.largest_step,
            }
            for name, each in found.losses.items()
        },
        "weights": {
            name: {
                "all": _weight(each.whole),
                "tensors": [_weight(tensor) for tensor in each.tensors],
                "layers": [_weight(layer) for layer in each.layers],
                "equal": each.equal,
                "not_compared": list(each.not_compared),
            }
            for name, each in found.weights.items()
        },
        "scores": [figure for each in found.scores for figure in entries(each.compared)],
        "notes": list(found.notes),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "recipe": side.recipe,
        "asset": side.asset,
        "step": side.step,
        "path": None if side.run is None else str(side.run.path),
    }


def _found(each: Found) -> dict[str, Any]:
    change = each.change
    values: Mapping[str, Any] = {"before": change.old, "after": change.new}
    return {
        "area": change.area,
        "assets": list(each.assets),
        "what": change.what,
        "definitions": list(change.definitions),
        "line": line(each),
        **{key: value for key, value in values.items() if value is not ABSENT},
    }


def _weight(each: WeightDifference) -> dict[str, Any]:
    return {
        "name": each.name,
        "relative": each.relative,
        # JSON knows no infinity
        "norm": each.norm if math.isfinite(each.norm) else None,
        "difference": each.difference if math.isfinite(each.difference) else None,
    }
