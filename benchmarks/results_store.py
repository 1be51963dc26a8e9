"""How fast a full store of results is read: a table of all checkpoints, and a curve over them.

example:
  python benchmarks/results_store.py                     1,000 checkpoints of 100 metrics: a minute

Run folders of finished evaluations are made up, as jobs of the recipe `demo` would leave them, and
their rows added to a store by what a job calls at its end. Then, in a process of their own each:

  leaderboard  opens the store, and makes the text of `olmo leaderboard demo --checkpoints`
  curve        opens the store, and draws one task as SVG, matplotlib's import with it
  first        the leaderboard where no file of the store has been read before
  command      the whole of `olmo leaderboard demo --checkpoints`: Python's start, the imports and
               the recipe's graph with it

Medians. Bounds, of the first two: 1 s and 3 s.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METRICS = ("acc", "acc_per_char", "acc_per_token", "acc_uncond")
BOUNDS = {"leaderboard": 1.0, "curve": 3.0}  # seconds


def write_evaluations(root: Path, checkpoints: int, metrics: int) -> float:
    """Write and record finished evaluations of stage 1's checkpoints; return seconds for each."""
    from assets.assemble import build_graph
    from assets.recipe import load_recipe
    from olmo_core.evals.rows import ModelFacts, write_rows
    from olmo_core.evals.store.write import record
    from olmo_core.files import write_json
    from olmo_core.run.folder import RunFolder
    from olmo_core.run.result import describe

    graph = build_graph(load_recipe("demo"))
    trained, evaluated = (graph.fingerprints[name] for name in ("stage1", "downstream"))
    seconds = 0.0
    for number in range(1, checkpoints + 1):
        name = f"stage1@step{number}"
        model = ModelFacts(
            **{"model": name, "revision": None, "step": number, "tokens": 4096 * number},
            **{"recipe": "demo", "run": trained.version, "seed": 6198, "sha256": f"{number:064}"},
        )
        figure = {"stderr": 0.015, "n": 1000, "truncated": 0, "task_version": "1.0"}
        rows = [
            model.row(
                task=f"task{place // len(METRICS)}",
                metric=METRICS[place % len(METRICS)],
                value=0.25 + 0.5 * (number * (place + 1) % 1009) / 1009,
                **figure,
            )
            for place in range(metrics)
        ]
        place = root / "demo" / "checkpoint_downstream" / name / evaluated.version
        run, path = RunFolder(place), place / "rows.parquet"
        write_rows(path, rows)
        identity = {"schema_version": 1, "recipe": "demo", "asset": "checkpoint_downstream"}
        identity |= {"partition": name, "fingerprint": evaluated.value, "inputs": {}}
        write_json(run.config, {"config": graph.nodes["downstream"].config})
        write_json(run.launch, {**identity, "parts": evaluated.parts})
        files = {path.name: describe(path)}
        end = {"digest": f"{number:064}", "files": files, "finished": 1.8e9 + number}
        write_json(run.result, {**identity, **end, "device": "cuda"})
        start = time.perf_counter()
        record(run, root)
        seconds += time.perf_counter() - start
    return seconds / checkpoints


def read(what: str, root: Path) -> None:
    """Print how many seconds the table or the curve takes, once the recipe's graph is there."""
    from assets.assemble import build_graph
    from assets.evals.board import make_board
    from assets.evals.curves import make_curves
    from assets.recipe import load_recipe
    from olmo_core.evals.store.read import open_results
    from olmo_core.monitor.curves import picture
    from pipelines.cli.leaderboard import plain_text

    graph = build_graph(load_recipe("demo"))
    assert graph.fingerprints
    start = time.perf_counter()
    results = open_results(root)
    if what == "curve":
        text = picture(make_curves([graph], results, root, ["task0"]).panels, "svg")
    else:
        text = plain_text(make_board([graph], results, root, checkpoints=True), 160)
    print(time.perf_counter() - start)
    assert len(text) > 1000
    results.require_whole()


def seconds_of(what: str, root: Path) -> float:
    """Return how long one of the readings takes, in a process of its own."""
    environment = {**os.environ, "OLMO_ROOT": str(root)}
    if what == "command":
        start = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "pipelines.cli.main",
            "leaderboard",
            "demo",
            "--checkpoints",
        ]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start
    if what == "first":
        shutil.rmtree(root / "cache", ignore_errors=True)
    command = [sys.executable, __file__, "--read", what, "--root", str(root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    """Make the store, read it, and say how long that took; returns 1 over a bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.read:
        read(chosen.read, chosen.root)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        each = write_evaluations(root, chosen.checkpoints, chosen.metrics)
        size = sum(path.stat().st_size for path in (root / "results").rglob("*.parquet"))
        print(
            f"record       {each * 1000:7.1f} ms a job, {size / chosen.checkpoints / 1000:.1f} kB"
        )
        over = False
        for what in ("first", "leaderboard", "curve", "command"):
            times = [seconds_of(what, root) for _ in range(chosen.rounds)]
            median, bound = statistics.median(times), BOUNDS.get(what)
            over |= bound is not None and median > bound
            said = f", bound {bound:g} s" if bound else ""
            print(f"{what:12} {median:7.2f} s ({min(times):.2f} to {max(times):.2f}){said}")
    return int(over)


if __name__ == "__main__":
    raise SystemExit(main())
