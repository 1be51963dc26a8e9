"""The kill drill: a run that SIGKILL met at any moment ends, resumed, with the same last bit.

Every moment of `kills.py`, on one rank and on two (of which one dies, or both), eager and compiled
by block. A few of them run with the ordinary tests, the others with `-m drill`.
"""

import itertools
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from olmo_core.run.folder import RunFolder, read_metrics
from tests.processes import exit_codes, free_ports

Start = Callable[..., BaseProcess]

EXIT_INPUT = 3
DEADLINE_SECONDS = 120  # for ranks to end, after one of them has died too
# moment -> steps that must have been done and lost, at least; FIRST: only the first rank has it
MOMENTS = {
    "second step": {1},
    "forward": {5, 6},
    "backward": {5, 6},
    "reduction": {5, 6},
    "clipping": {5, 6},
    "update": {5, 6},
    "after the update": {5, 6},
    "torn row": {5, 6},
    "copy of the state": {5, 6, 7, 8},
    "between shards": {5, 6, 7, 8},
    "in a shard": {5, 6, 7, 8},
    "before the index": {5, 6, 7, 8},
    "before train.json": {5, 6, 7, 8},
    "before the manifest": {5, 6, 7, 8},
    "before the name": {5, 6, 7, 8},
    "after the name": {9},
    "in the deletion": {9},
    "while the next steps run": {5, 6, 7, 8, 9},
    "last checkpoint": {9, 10, 11, 12},
    "in the model file": {9, 10, 11, 12},
    "before the result": {9, 10, 11, 12},
    "resuming": {5, 6},
}
FIRST = {
    "torn row",
    "before the index",
    "before train.json",
    "before the manifest",
    "before the name",
    "after the name",
    "in the deletion",
    "in the model file",
    "before the result",
}
ORDINARY = {  # the rest take minutes
    ("eager", 1): {
        "second step",
        "update",
        "torn row",
        "in a shard",
        "before the manifest",
        "in the deletion",
        "while the next steps run",
        "before the result",
        "resuming",
    },
    ("eager", 2): {"backward", "between shards"},
}
POWER_CUT = {"in the model file", "before the result"}  # and the last checkpoint is torn as well


@dataclass(frozen=True)
class Way:
    """How a run is computed."""

    ranks: int
    overrides: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def dying(moment: str, ranks: int) -> list[int]:
    """The ranks that are killed: in turn the first, the last and all, where each has the moment."""
    if ranks == 1 or moment in FIRST:
        return [0]
    return ([1], [0], [0, 1])[list(MOMENTS).index(moment) % 3]


def attempt(
    start: Start, folder: str, way: Way, moments: Mapping[int, str], *overrides: str
) -> list[int | None]:
    """Train until all ranks have ended, by themselves; their exit codes."""
    [port] = free_ports(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes: list[BaseProcess] = []
    for rank in range(way.ranks):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": way.ranks}
        numbers["LOCAL_WORLD_SIZE"] = way.ranks
        world = {name: str(number) for name, number in numbers.items()} | address
        moment = moments.get(rank, "")
        environment = {**way.environment, **world}
        processes.append(
            start(folder, *way.overrides, *overrides, moment=moment, environment=environment)
        )
    return exit_codes(processes, DEADLINE_SECONDS)


@pytest.fixture(scope="session")
def way_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Way]:
    cache = tmp_path_factory.mktemp("inductor")  # one for all: the first run fills it
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TORCHINDUCTOR_COMPILE_THREADS": "1"}

    def way_of(mode: str, ranks: int) -> Way:
        if mode == "eager":
            return Way(ranks)
        return Way(ranks, ("compile.fullgraph=true",), compiled)

    return way_of


@pytest.fixture(scope="session")
def undisturbed_of(
    start_in: Callable[[Path], Start],
    way_of: Callable[[str, int], Way],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, int], Path]:
    """The folder of a run of this kind that nothing happened to; made once."""
    made: dict[tuple[str, int], Path] = {}

    def undisturbed_of(mode: str, ranks: int) -> Path:
        if (mode, ranks) not in made:
            root = tmp_path_factory.mktemp("undisturbed")
            codes = attempt(start_in(root), "run", way_of(mode, ranks), {})
            assert codes == [0] * ranks, (root / "said.txt").read_text()
            made[mode, ranks] = root / "run"
        return made[mode, ranks]

    return undisturbed_of


@dataclass(frozen=True)
class Drill:
    """Runs of one kind in the folder of a test, and such a run that nothing happened to."""

    start: Start
    way: Way
    undisturbed: Path

    def attempt(self, folder: str, moments: Mapping[int, str], *overrides: str) -> list[int | None]:
        return attempt(self.start, folder, self.way, moments, *overrides)


@pytest.fixture
def drill(
    mode: str,
    ranks: int,
    start: Start,
    way_of: Callable[[str, int], Way],
    undisturbed_of: Callable[[str, int], Path],
) -> Drill:
    return Drill(start, way_of(mode, ranks), undisturbed_of(mode, ranks))


def rows(folder: Path) -> list[dict[str, Any]]:
    *lines, torn = (folder / "metrics.jsonl").read_text().split("\n")
    assert torn in ("", '{"step": 7, "train/CrossEnt')
    return [json.loads(line) for line in lines]


def steps(folder: Path, number: int) -> set[int]:
    return {row["step"] for row in rows(folder) if row["attempt"] == number}


def learned(folder: Path) -> list[tuple[Any, ...]]:
    """What each step learned, of the last attempt that made it."""
    names = ("step", "train/CrossEntropyLoss", "optim/total_grad_norm", "throughput/total_tokens")
    found = sorted(read_metrics(folder / "metrics.jsonl"), key=lambda row: row["step"])
    return [tuple(row[name] for name in names) for row in found]


def remembered(folder: Path) -> dict[str, Any]:
    """What the last checkpoint holds beside its tensors and depends on the steps alone."""
    content = json.loads((folder / "checkpoints" / "step12" / "train.json").read_text())
    assert len(content["history"]["losses"]) == 12
    return {name: content[name] for name in ("step", "tokens", "epoch", "order", "history")}


def cases() -> list[Any]:
    found: list[Any] = []
    for mode, ranks, moment in itertools.product(("eager", "compiled"), (1, 2), MOMENTS):
        marks = [] if moment in ORDINARY.get((mode, ranks), ()) else [pytest.mark.drill]
        name = f"{moment}-{mode}-{ranks}"
        found.append(pytest.param(moment, mode, ranks, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("moment", "mode", "ranks"), cases())
def test_killed_anywhere_it_ends_with_the_same_bits(
    moment: str, ranks: int, drill: Drill, tmp_path: Path
) -> None:
    undisturbed = drill.undisturbed
    killed, doomed = tmp_path / "killed", dying(moment, ranks)
    keep = f"save_num_checkpoints_to_keep={-1 if moment in POWER_CUT else 1}"
    if moment == "resuming":  # from a checkpoint, which is whole for certain
        sync = "core.save_async=false"
        drill.attempt("killed", dict.fromkeys(doomed, "kill: forward"), keep, sync)
        assert (killed / "checkpoints" / "step4").is_dir()
    codes = drill.attempt("killed", dict.fromkeys(doomed, f"kill: {moment}"), keep)
    assert [codes[rank] for rank in doomed] == [-signal.SIGKILL] * len(doomed)
    assert None not in codes, "a rank that was left hangs"
    assert not RunFolder(killed).finished
    done = steps(killed, 1)
    codes = drill.attempt("killed", {}, keep)
    assert codes == [0] * ranks, (tmp_path / "said.txt").read_text()
    last = max(row["attempt"] for row in rows(killed))
    assert done & steps(killed, last) >= MOMENTS[moment]
    weights = "model/model.safetensors"
    assert (killed / weights).read_bytes() == (undisturbed / weights).read_bytes()
    assert learned(killed) == learned(undisturbed)
    assert remembered(killed) == remembered(undisturbed)
    results = [RunFolder(folder).read_result() for folder in (killed, undisturbed)]
    assert results[0]["digest"] == results[1]["digest"]
    left = [path for path in killed.rglob("*") if path.suffix in (".tmp", ".partial")]
    assert not left


@pytest.mark.parametrize(("mode", "ranks"), [("eager", 1), ("eager", 2)])
def test_a_disk_that_fills_up_in_the_background_stops_all_ranks_alike(
    ranks: int, drill: Drill, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    codes = drill.attempt("run", {ranks - 1: "no space in step 8"})
    assert codes == [EXIT_INPUT] * ranks
    said = (tmp_path / "said.txt").read_text()
    shard = f"{folder}/checkpoints/step8.tmp/model_and_optim/__{ranks - 1}_0.distcp"
    reason = f"[Errno 28] No space left on device: '{shard}'"
    assert said.count(f"step8: not saved: {reason}") == ranks
    assert f"{folder}/checkpoints/step4 is kept" in said
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step4"]
    assert drill.attempt("run", {}) == [0] * ranks
    assert learned(folder) == learned(drill.undisturbed)
