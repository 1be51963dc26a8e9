"""Which evaluations in the store of results count for a recipe as it stands, and their figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from assets.evals.sweep import sweep_names
from assets.graph import Graph
from olmo_core.evals.store.read import IN_LOOP, Results

# What a table or a curve needs of a row.
FIELDS = (
    *("recipe", "run", "seed", "model", "revision", "step", "tokens", "tokens_in_all"),
    *("task", "metric", "value", "stderr", "n", "truncated", "headline", "chance"),
    *("asset", "partition", "epoch(finished) as finished", "task_sha256"),
)
# What was made of the current state first, of this the recipe's own, of these the last.
OF_MODELS = """
select evaluation, fingerprint, folder from rows
where asset = $asset and (fingerprint = $fingerprint or evaluated_for = $recipe)
order by folder = $folder desc, fingerprint = $fingerprint desc, evaluated_for = $recipe desc,
    finished desc, evaluation
limit 1
"""
# Of two recipes that share a run, each may evaluate it in its own way: the recipe's own first.
OF_CHECKPOINTS = """
select distinct evaluation from (
    select * from current where asset = any($assets) and run = any($runs)
    qualify 1 = dense_rank() over (
        partition by asset, run, model
        order by evaluated_for = $recipe desc, finished desc, evaluation
    )
)
"""


def model_evaluations(graph: Graph, results: Results, root: Path) -> tuple[list[str], list[str]]:
    """Return the evaluations of the main line's models, and notes.

    Where one is to be made anew it is the recipe's last, with a note.
    """
    chosen: list[str] = []
    notes: list[str] = []
    recipe = graph.recipe.name
    for asset in (name for name in ("perplexity", "downstream") if name in graph.nodes):
        run = graph.finished(root, asset)
        fingerprint, folder = graph.fingerprints[asset].value, None if run is None else run.path
        named = {"fingerprint": fingerprint, "folder": folder and str(folder)}
        found = results.query(OF_MODELS, asset=asset, recipe=recipe, **named)
        chosen += [row["evaluation"] for row in found]
        if run is None and any(_to_be_made(row, fingerprint) for row in found):
            notes.append(
                f"{recipe}: {asset} is of an earlier state of recipe, code or inputs: "
                f"olmo plan {recipe} says which"
            )
    return chosen, notes


def _to_be_made(row: dict[str, Any], fingerprint: str) -> bool:
    """Return whether an evaluation counts no more; one whose folder was pruned does."""
    return row["fingerprint"] != fingerprint or Path(row["folder"]).exists()


def checkpoint_evaluations(graph: Graph, results: Results) -> list[str]:
    """Return the evaluations of the checkpoints of the recipe's runs."""
    versions = {
        graph.fingerprints[name].version for name, node in graph.nodes.items() if node.distributed
    }
    assets = sweep_names(graph)
    known = results.query("select distinct run from current where asset = any(?)", assets)
    runs = _newest((row["run"] for row in known if row["run"]), versions)
    found = results.query(OF_CHECKPOINTS, assets=assets, runs=runs, recipe=graph.recipe.name)
    return [row["evaluation"] for row in found]


def in_loop_evaluations(graph: Graph, results: Results) -> list[str]:
    """Return what the recipe's runs evaluated while they trained; of a repeated one, the last."""
    versions = {
        graph.fingerprints[name].version for name, node in graph.nodes.items() if node.distributed
    }
    known = results.query("select distinct run from current where asset = ?", IN_LOOP)
    runs = _newest((row["run"] for row in known), versions)
    found = results.query(
        "select distinct evaluation from current where asset = ? and list_contains(?, run)",
        *(IN_LOOP, runs),
    )
    return [row["evaluation"] for row in found]


def _newest(runs: Iterable[str], versions: set[str]) -> list[str]:
    """Return of each version the run that was made last: `.3` is the second forced repeat."""
    newest: dict[str, int] = {}
    for run in runs:
        version, _, repeat = run.partition(".")
        if version in versions:
            newest[version] = max(newest.get(version, 1), int(repeat or 1))
    return [version if last == 1 else f"{version}.{last}" for version, last in newest.items()]


def figures(
    results: Results, evaluations: Sequence[str], shown: Iterable[tuple[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Return the figures of evaluations with the fields `FIELDS`, in the order of their rows.

    Args:
        results: The store.
        evaluations: Those that count.
        shown: Task and metric of what is wanted; None: everything.
    """
    pairs = None if shown is None else [{"task": task, "metric": name} for task, name in shown]
    wanted = (
        "" if pairs is None else "and {'task': task, 'metric': metric} in (select unnest($pairs))"
    )
    sql = f"""
        select {", ".join(FIELDS)} from rows
        where evaluation in (select unnest($evaluations::varchar[])) {wanted} order by position
    """
    return results.query(
        sql, evaluations=evaluations, **({} if pairs is None else {"pairs": pairs})
    )
