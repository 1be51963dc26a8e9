"""`olmo replay`, `olmo accept --replay`: steps of a training made again, compared bit by bit."""

import functools
from collections.abc import Sequence

from assets.assemble import build_graph
from assets.execution.follow import JobFailed
from assets.execution.replay import record_of, replay, replay_folder
from assets.graph import Graph
from assets.launcher import Launcher, Refused
from assets.paths import root
from assets.recipe import load_recipe
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError
from olmo_core.lineage.compare_replay import Replay, described
from olmo_core.lineage.replay import Stretch, proving_stretches, stretch_before
from olmo_core.run.code import TRAINING, code_hashes
from olmo_core.run.folder import RunFolder
from pipelines.cli.accept import CannotProve, Stale, acceptances_of, find_stale, keep
from pipelines.cli.terminal import EXIT_FAILED, TerminalObserver, print_json, terminal
from pipelines.launchers.router import site_launcher

SHOWN = 10  # differences
PROVABLE = ("code", "packages", "inputs")  # areas of a fingerprint; the inputs are accepted before
PROVING_STEPS = 20  # from each checkpoint


def replay_steps(recipe: str, stage: str, step: int, steps: int, *, as_json: bool) -> int:
    """Replay `steps` steps from `step` on and say what is equal; return the exit code.

    It is 1 where bits differ on the same place, or figures by more than the tolerance elsewhere.

    Raises:
        ConfigError: unknown recipe or stage; the stage has no run.
        InputError: the run has no such step, or lacks what a replay needs.
        Refused: the replay is at work already, or its job has ended without a result.
    """
    graph, launcher = build_graph(load_recipe(recipe)), site_launcher()
    run = run_of(graph, stage, launcher)
    stretch = stretch_before(run, step, steps)
    [found] = replay_all(recipe, stage, [stretch], launcher, silent=as_json)
    if as_json:
        print_json(record_of(stretch, found))
    else:
        for line in (*map(str, found.differences[:SHOWN]), *found.elsewhere):
            print(f"  {line}")
        print(f"{run.path}: {described(found)}")
        print(f"folder: {replay_folder(root(), recipe, stage, stretch)}")
    good = found.bitwise or (found.elsewhere and found.within_tolerance)
    return 0 if good else EXIT_FAILED


def run_of(graph: Graph, stage: str, launcher: Launcher) -> RunFolder:
    """Return the run of a training that a replay repeats: as it counts now, or the nearest stale.

    Raises:
        ConfigError: it is no training of the recipe, or it has no run.
    """
    trainings = [name for name, node in graph.nodes.items() if node.module == TRAINING]
    if stage not in trainings:
        raise ConfigError(
            f"{stage}: no training of the recipe {graph.recipe.name}; {nearest(stage, trainings)}"
        )
    finished = graph.finished(root(), stage)
    if finished is not None:
        return finished
    stale = find_stale(graph, root(), stage, launcher)
    begun = [run for run in graph.unfinished(root(), stage) if run.last_checkpoint()]
    if stale is None and not begun:
        raise ConfigError(
            f"{stage}: has no run yet; `olmo run {graph.recipe.name} --select {stage}` makes one"
        )
    return begun[0] if stale is None else stale.run


def replay_all(
    recipe: str, stage: str, stretches: Sequence[Stretch], launcher: Launcher, *, silent: bool
) -> list[Replay]:
    """Replay stretches of one run up to the first that differs, with progress on the terminal.

    Ctrl-C ends the job that is at work.

    Raises:
        Refused: a replay is at work already, or its job has ended without a result.
    """
    console = terminal()
    console.quiet = silent
    observer = TerminalObserver(console, len(stretches))
    found: list[Replay] = []
    with observer.bars:
        for stretch in stretches:
            try:
                found.append(replay(recipe, stage, stretch, root(), launcher, observer))
            except KeyboardInterrupt:
                folder = replay_folder(root(), recipe, stage, stretch)
                launcher.cancel([RunFolder(folder)])
                raise
            except JobFailed as error:
                raise Refused(str(error)) from None
            if not found[-1].bitwise:
                break
    return found


def accept_replayed(
    recipe: str, names: Sequence[str], *, because: str, config: Sequence[str]
) -> None:
    """Accept the trainings that changed code or packages make stale, if their replays are equal.

    With them go what is made from them, if nothing else makes it stale. All or none is accepted.

    Raises:
        ConfigError: values are to be accepted too; an asset is unknown, not stale, no training, or
            stale by its values.
        Refused: a bit differs, or a replay has no result.
        InputError: a run lacks what a replay needs.
    """
    if config:
        raise ConfigError("--config: a replay repeats the run by its own values; accept them first")
    graph = build_graph(load_recipe(recipe))
    graph.select(names)
    said = because.strip() or "its steps, made again, are equal bit by bit"
    prove = functools.partial(_proof, graph, site_launcher())
    keep(acceptances_of(graph, names, because=said, config=(), prove=prove))


def _proof(graph: Graph, launcher: Launcher, name: str, stale: Stale) -> list[str]:
    """Replay what proves that the change is harmless; return what was found, one line each."""
    if graph.nodes[name].module != TRAINING:
        if stale.areas == {"inputs"}:
            return []
        raise CannotProve(f"{name}: no training, and stale by more than its inputs")
    if not stale.areas.issubset(PROVABLE):
        raise CannotProve(f"{name}: stale by its values, which a replay does not prove harmless")
    if not stale.run.finished:
        raise CannotProve(f"{name}: {stale.run.path} has not finished, so its end proves nothing")
    stretches = proving_stretches(stale.run, PROVING_STEPS)
    found = replay_all(graph.recipe.name, name, stretches, launcher, silent=False)
    if not found[-1].bitwise:
        raise Refused(
            f"{name}: not accepted: {described(found[-1])}"
            + "".join(f"\n  {line}" for line in found[-1].elsewhere)
        )
    if code_hashes(TRAINING, now=True) != graph.fingerprints[name].code:
        raise Refused(f"{name}: not accepted: the code has changed during the replay; run it again")
    return [f"replayed: {described(one)}" for one in found]
