"""`python -m olmo_core.train CONFIG.yaml [--a.b=c …]`, alone or under torchrun.

After it, `save_folder` holds checkpoints, `model/` and, last, `result.json`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.errors import ConfigError
from olmo_core.monitor.dry_run import devices_of, plan, planned_memory, render
from olmo_core.run.command import exit_codes, set_up_logging

EXAMPLES = """\
examples:
  python -m olmo_core.train stage1.yaml --save_folder=/data/run1
  python -m olmo_core.train stage1.yaml --dry_run --optimizer.learning_rate=3e-4
  torchrun --nproc-per-node=2 -m olmo_core.train stage1.yaml save_folder=/data/run1
  python -m olmo_core.train stage2.yaml --ingredient=2 load_path=/data/run1 save_folder=/data/run2
  python -m olmo_core.train stage1.yaml --dry_run --devices=64 --lr_at=0,1000,10000

Keys are those of the official OLMo YAML files; ours stand under core: (docs/training.md).
A run that was interrupted resumes: give the same command again.
exit codes: 0 finished, 1 failed, 2 configuration, 3 data, 4 stopped on request,
            5 another process trains here, 6 the loss or gradient is not a number
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then plan or train."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.train",
        description="Train an OLMo from an official YAML file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG.yaml")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="a.b=c",
        help="with or without dashes; --dry_run, a key too, says what would be done and ends",
    )
    parser.add_argument("--json", action="store_true", help="the dry run as one JSON object")
    parser.add_argument("--lr_at", metavar="STEPS", default="", help="the rate at these: 0,1000")
    parser.add_argument("--devices", type=int, metavar="N", help="of the dry run's memory")
    parser.add_argument(
        "--ingredient", type=int, metavar="N", help="which one of a recipe's stage2.yaml, from 1"
    )
    options, rest = parser.parse_known_args(arguments)
    set_up_logging()
    with exit_codes():
        overrides = [*options.overrides, *rest, *(["dry_run=true"] if options.json else [])]
        config, ignored_keys = load_train_config(
            options.config, overrides, ingredient=options.ingredient
        )
        if config.dry_run:
            _print_plan(config, ignored_keys, options)
            return
        # Before torch loads OpenMP. Idle threads sleep instead of spinning: on a machine that does
        # anything else, spinning made a step three times slower (measured, two cores, load 4).
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from olmo_core.train.run import run  # torch: a dry run needs none

        run(config, ignored_keys)


def _print_plan(
    config: TrainConfig, ignored_keys: Sequence[str], options: argparse.Namespace
) -> None:
    """Print the plan to standard output; everything else goes to standard error."""
    planned = plan(config, _steps(options.lr_at), devices=options.devices)
    if options.json:
        print(json.dumps(planned))
    else:
        devices, _ = devices_of(os.environ, options.devices)
        print(render(planned, planned_memory(config, options.devices), devices))
    if ignored_keys:
        print("keys without meaning here:", ", ".join(ignored_keys), file=sys.stderr)


def _steps(text: str) -> list[int]:
    try:
        steps = [int(float(part)) for part in text.split(",") if part]
    except (ValueError, OverflowError):  # no number; infinity
        steps = [-1]
    if min(steps, default=0) < 0:
        raise ConfigError(f"--lr_at={text}: expected steps, as in 0,1000")
    return steps


if __name__ == "__main__":
    main()
