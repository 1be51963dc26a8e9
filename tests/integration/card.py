"""Find the numbers of a model card in run folders, or compute them without the card's code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.release.card_numbers import numbers_of, recorded
from tests.integration.conftest import World


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run folder, and what it reported."""

    path: Path
    result: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        return self.result["report"]["data"]


def every_number_is_found(world: World) -> None:
    """Find each number of the card of a recipe whose soup is the mean of its ingredients."""
    runs: dict[str, Run] = {}
    for name, entry in world.show().items():
        path = Path(entry["path"])
        runs[name] = Run(path=path, result=json.loads((path / "result.json").read_text()))
    tokens = {each["model"]: each["tokens"] for each in runs["export"].data["models"]}
    *trained, soup = tokens
    assert (trained[0], soup) == ("stage1", "soup")
    assert tokens[soup] == sum(tokens[name] for name in trained[1:])
    in_all = tokens["stage1"] + tokens[soup]
    parameters = runs["export"].result["report"]["numbers"]["parameters"]
    follows = [in_all, round(in_all / parameters, 1)]
    mixes: set[str] = set()
    for name in trained:
        [mix] = [each for each in runs[name].result["inputs"] if each.endswith("_mix")]
        mixes.add(mix)
        read = naive_tokens_read(runs, name, mix)
        assert sum(read.values()) == tokens[name]
        follows += [*read.values(), *(round(n / tokens[name], 4) for n in read.values())]
        follows += [tokens["stage1"] + tokens[name]]
    follows += naive_energy([runs[name] for name in trained])
    assets = [*tokens, *mixes, "export", "tokens", "leaderboard"]
    known = recorded([runs[asset].path for asset in assets], follows)
    card = (runs["model_card"].path / "README.md").read_text()
    assert len(numbers_of(card)) > 100
    assert known.lacks(card) == []


def naive_energy(runs: list[Run]) -> list[float]:
    """Attempts, hours and, where counters were read, kWh of these runs, none of which was ended."""
    hours: list[float] = []
    kwh: list[float] = []
    for run in runs:
        [began, ended] = map(json.loads, (run.path / "attempts.jsonl").read_text().splitlines())
        assert (began["event"], ended["cause"]) == ("began", "finished")
        numbers = run.result["report"]["numbers"]
        assert began["place"]["devices"] == numbers["ranks"]
        hours.append((run.result["finished"] - began["time"]) / 3600)
        kwh.append(numbers.get("energy_kwh", 0.0))
    figures = [*hours, sum(hours), *kwh, sum(kwh)]
    return [1, len(runs), *(float(f"{figure:.4g}") for figure in figures)]


def naive_tokens_read(runs: Mapping[str, Run], model: str, mix: str) -> dict[str, int]:
    """Tokens of each source, window by window as the loader gives them."""
    from olmo_core.data.loader import Loader
    from olmo_core.data.manifest import Manifest

    data = runs[model].data
    manifest = Manifest.read(runs[mix].path / "manifest.json", root=runs["tokens"].path)
    keys = ("sequence_length", "global_batch_size", "seed", "first_epoch")
    order = {key: data["order"][key] for key in keys}
    loader = Loader(manifest=manifest, order=data["order"]["algorithm"], **order)
    read: dict[str, int] = {}
    for step in range(data["first_step"], data["step"]):
        for window in loader.instances(step).tolist():
            for piece in loader.data.pieces(window):
                source = Path(piece.path).parts[1]
                read[source] = read.get(source, 0) + piece.stop - piece.start
    return read
