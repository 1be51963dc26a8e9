"""Compare a run's in-loop figures with those that the code of checkpoint sweeps makes of it.

Run as `python -m olmo_core.evals.in_loop.offline RUN_FOLDER [--step N]`: the checkpoint is
exported, scored on the same sets and labels, and every figure set against the one in
`metrics.jsonl`. It ends with 1 where one differs by more than a millionth.
"""

import argparse
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from olmo_core.checkpoint.layout import list_checkpoints
from olmo_core.config.evals import DownstreamConfig, TaskConfig
from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError, exit_codes
from olmo_core.evals import downstream
from olmo_core.evals.checkpoint import export_checkpoint
from olmo_core.evals.in_loop.labels import TASK, figure
from olmo_core.evals.in_loop.tokenizer import ASSET, find_tokenizer
from olmo_core.evals.perplexity import perplexity
from olmo_core.evals.rows import EvaluatedModel, read_rows
from olmo_core.files import write_json
from olmo_core.run.folder import RunFolder, read_metrics
from olmo_core.run.job import Job

TOLERANCE = 1e-6  # of a figure


def offline_figures(config: TrainConfig, model: EvaluatedModel, folder: Path) -> dict[str, float]:
    """Return the figures of a run's evaluators, of an exported model, by their in-loop names.

    Args:
        config: The run.
        model: Its checkpoint's export.
        folder: Receives the jobs' folders.
    """
    tokenizer = str(find_tokenizer(config).absolute())
    sets = [
        PerplexitySet(
            name=each.label,
            kind="tokens",
            sources=each.data.sets(each.label),
            tokenizer=tokenizer,
            dtype=each.data.memmap_dtype,  # pyright: ignore[reportArgumentType]
        )
        for each in config.evaluators
        if each.type == "lm"
    ]
    labels = [each.label for each in config.evaluators if each.type == "downstream"]
    found: dict[str, float] = {}
    if sets:
        with Job.open(folder / "perplexity") as job:
            perplexity.score_models(PerplexityConfig(sets=tuple(sets)), [model], None, job)
        for row in read_rows(folder / "perplexity" / "rows.parquet"):
            if row["metric"] == "loss" and row["task"].count("/") == 1:
                name = f"eval/{row['task'].partition('/')[2]}"
                found[f"{name}/CrossEntropyLoss"] = row["value"]
                found[f"{name}/Perplexity"] = math.exp(row["value"])
    if labels:
        tasks = tuple(TaskConfig(name=f"{TASK}{label}") for label in labels)
        with Job.open(folder / "downstream") as job:
            downstream.score_models(DownstreamConfig(tasks=tasks), [model], job)
        for row in read_rows(folder / "downstream" / "rows.parquet"):
            found[figure(row["task"].removeprefix(TASK))] = row["value"]
    return found


def exported(config: TrainConfig, run: Path, step: int, scratch: Path) -> EvaluatedModel:
    """Return a checkpoint's export below `scratch`, with the run's tokenizer."""
    tokenizer = config.core.roots.get(ASSET)
    if tokenizer is None:
        tokenizer = scratch / "tokenizer"
        tokenizer.mkdir()
        shutil.copyfile(find_tokenizer(config), tokenizer / "tokenizer.json")
        encoder, ids = read_tokenizer(tokenizer / "tokenizer.json"), config.model
        special = {"eos_token": encoder.id_to_token(ids.eos_token_id)}
        fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
        write_json(tokenizer / "tokenizer_config.json", fast | special)
        write_json(tokenizer / "special_tokens_map.json", special)
        facts = {
            "vocab_size": encoder.get_vocab_size(),
            "eos_token_id": ids.eos_token_id,
            "pad_token_id": ids.pad_token_id,
        }
        write_json(tokenizer / "result.json", {"schema_version": 1, "report": {"data": facts}})
    return export_checkpoint(run / "checkpoints" / f"step{step}", tokenizer, scratch)


def differences(
    in_loop: Mapping[str, float], offline: Mapping[str, float]
) -> Iterator[tuple[str, float | None, float, float]]:
    """Yield name, in-loop figure, offline figure and how far they are apart; infinity: one lacks.

    A perplexity's distance is relative, for it grows as the exponential of the loss.
    """
    for name, value in sorted(offline.items()):
        found = in_loop.get(name)
        scale = value if name.endswith("/Perplexity") else 1.0
        yield name, found, value, math.inf if found is None else abs(found - value) / scale


def compare(run: Path, step: int | None) -> bool:
    """Print both figures of each evaluator of a run's checkpoint; return whether all are equal.

    Raises:
        InputError: the run has no such checkpoint, or no evaluation of it.
    """
    config, _ = load_train_config(RunFolder(run).config)
    rows = {row["step"]: row for row in read_metrics(RunFolder(run).metrics) if "evaluation" in row}
    both = [each.step for each in list_checkpoints(run) if each.step in rows]
    if not both or (step is not None and step not in both):
        raise InputError(
            f"{run}: no step {'' if step is None else step} that was saved and evaluated; "
            f"expected one of {', '.join(map(str, both)) or 'some'}"
        )
    chosen = both[-1] if step is None else step
    with TemporaryDirectory() as folder:
        model = exported(config, run, chosen, Path(folder))
        offline = offline_figures(config, model, Path(folder) / "recipe" / "jobs")
    print(f"step {chosen}")
    equal = True
    for name, found, value, apart in differences(rows[chosen], offline):
        equal = equal and apart <= TOLERANCE
        said = "none" if found is None else f"{found:.9f}"
        print(f"{name:60} in-loop {said:>15}  offline {value:15.9f}  apart {apart:.1e}")
    return equal


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the checkpoint that the command line names, by default the last that can be."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.evals.in_loop.offline",
        description="Compare a run's in-loop figures with those of its exported checkpoint.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--step", type=int, metavar="N")
    options = parser.parse_args(arguments)
    with exit_codes():
        if not compare(options.folder.absolute(), options.step):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
