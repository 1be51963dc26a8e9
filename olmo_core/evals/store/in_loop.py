"""What training runs evaluated while they trained, for the store: one file per evaluation.

The rows have the columns of all others and are of the asset `in_loop`: figures of the weights as
the run held them, which no table mixes with those of checkpoints.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from olmo_core.config.load import load
from olmo_core.evals.in_loop.labels import TASK, Metric
from olmo_core.evals.store.read import IN_LOOP
from olmo_core.evals.store.schema import FOLDER
from olmo_core.evals.store.tokens_behind import tokens_before
from olmo_core.evals.store.write import SEPARATOR, content_digest, sha256, write_rows
from olmo_core.run.folder import EVALUATION, RunFolder, read_evaluations, read_first

Row = Mapping[str, Any]

OF_SETS = {"CrossEntropyLoss": "loss", "Perplexity": "perplexity_token"}
TOKENS = "throughput/total_tokens"
NO_EVALUATORS = "evaluators: []\n"  # of a resolved configuration


def record_in_loop(run: RunFolder, root: Path) -> None:
    """Add those of a training's evaluations to the store of its root that it lacks.

    One that was started by hand in another place than `<root>/<recipe>/<asset>/<version>` has none.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the run's configuration is damaged.
    """
    if not run.path.is_relative_to(root) or len(run.path.relative_to(root).parts) != 3:
        return
    # All of them before the first is written: of a step that was evaluated twice both are lacking.
    for name, rows in [*lacking_evaluations(run, root)]:
        write_rows(root / FOLDER / run.path.parents[1].name / IN_LOOP, name, rows)


def lacking_evaluations(run: RunFolder, root: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the evaluations of which the store has no whole file: its name's beginning, its rows.

    A step that was done again after a kill was evaluated again, and has a file per evaluation.
    What was evaluated before any step was logged waits until one has been: nothing else says how
    many tokens the run had read.
    """
    asset, version = run.path.parent.name, run.path.name
    logged = read_first(run.metrics, TOKENS)
    if logged is None:
        return
    tree = load(run.config)
    per_step = int(tree["global_train_batch_size"]) * int(tree["model"]["max_sequence_length"])
    facts = _facts(run, root, seed=tree.get("seed"))
    for row in read_evaluations(run.metrics):
        step = int(row["step"])
        model = f"{asset}@step{step}"
        name = SEPARATOR.join([model, version])
        if _is_kept(root / FOLDER / facts["evaluated_for"] / IN_LOOP, name, row["time"]):
            continue
        identity = {name: facts[name] for name in ("recipe", "run", "training")}
        of_row = {"model": model, "attempt": row["attempt"], "at": row["time"]}
        known = {
            **facts,
            "model": model,
            "partition": model,
            "step": step,
            "tokens": logged[TOKENS] + (step - logged["step"]) * per_step,
            "finished": datetime.fromtimestamp(row["time"], UTC),
            "evaluation": sha256({**identity, **of_row}),
        }
        if figures := [{**known, **figure} for figure in _figures(row)]:
            yield name, figures  # else all of it failed, as the run itself reports


def trainings(root: Path) -> Iterator[RunFolder]:
    """Yield the trainings below a root that may have evaluated what its store lacks.

    One whose configuration names no evaluators is not looked at, nor one that has logged nothing
    since its last evaluation was kept.
    """
    kept: dict[tuple[str, ...], float] = {}
    for path in (root / FOLDER).glob(f"*/{IN_LOOP}/*.parquet"):
        model, version, _ = path.name.split(SEPARATOR)
        key = (path.parts[-3], model.partition("@")[0], version)
        kept[key] = max(kept.get(key, 0), path.stat().st_mtime)
    for metrics in root.glob("*/*/*/metrics.jsonl"):
        run = RunFolder(metrics.parent)
        if kept.get(run.path.relative_to(root).parts, 0) >= metrics.stat().st_mtime:
            continue
        if run.config.is_file() and NO_EVALUATORS not in run.config.read_text(encoding="utf-8"):
            yield run


def _facts(run: RunFolder, root: Path, seed: int | None) -> dict[str, Any]:
    """Return what all rows of a training say."""
    launch = run.read(run.launch) or {}
    code: Mapping[str, Any] = launch.get("code") or {}
    return {
        "recipe": run.path.parents[1].name,
        "run": run.path.name,
        "seed": seed,
        "asset": IN_LOOP,
        "evaluated_for": run.path.parents[1].name,
        "fingerprint": launch.get("fingerprint"),
        "folder": str(run.path.relative_to(root)),
        "commit": f"{code['commit']}{'+' * bool(code['dirty'])}" if code.get("commit") else None,
        "tokens_before": tokens_before(run.path),
        "training": training_of(run),
    }


def training_of(run: RunFolder) -> str:
    """Return what tells a training from another in the same folder: the digest of its first row.

    A run that is resumed goes on with its `metrics.jsonl`; one that begins again begins another.
    """
    with run.metrics.open("rb") as metrics:
        return hashlib.sha256(metrics.readline()).hexdigest()


def _is_kept(folder: Path, name: str, time: float) -> bool:
    """Return whether the store has a whole file of an evaluation of that time."""
    return any(
        path.stat().st_mtime >= time
        and path.stem.rpartition(SEPARATOR)[2] == content_digest(path.read_bytes())
        for path in folder.glob(f"{name}{SEPARATOR}*.parquet")
    )


def _figures(row: Row) -> Iterator[dict[str, Any]]:
    """Yield task, metric and value of each figure of an evaluation, and what was asked.

    Rows of an earlier version do not tell of how many documents a figure is, nor what was asked.
    """
    asked: Mapping[str, str] = row[EVALUATION].get("asked", {})
    documents: Mapping[str, int] = row[EVALUATION].get("documents", {})
    for name, value in row.items():
        if not name.startswith("eval/"):
            continue
        task, metric = task_and_metric(name)
        question = {"task": task, "metric": metric, "asked": asked.get(name)}
        figure = {"task": task, "metric": metric, "value": value, "n": documents.get(name)}
        yield {**figure, "task_sha256": sha256(question)}


def task_and_metric(name: str) -> tuple[str, str]:
    """Return how the store calls a figure of `metrics.jsonl`.

    >>> task_and_metric("eval/downstream/piqa_len_norm")
    ('in_loop_piqa', 'len_norm')
    >>> task_and_metric("eval/c4_en-validation/CrossEntropyLoss")
    ('c4_en-validation', 'loss')
    """
    of, _, last = name.removeprefix("eval/").rpartition("/")
    if last in OF_SETS:
        return of, OF_SETS[last]
    metric = next((each for each in get_args(Metric) if last.endswith(f"_{each}")), None)
    if metric is None:
        return f"{of}/{last}", "value"  # of a version that has other metrics
    return f"{TASK}{last.removesuffix(f'_{metric}')}", metric
