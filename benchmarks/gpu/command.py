"""Part `command`: `python -m olmo_core.train` is killed in an asynchronous save, and goes on.

The killed run, one under torchrun and one that nothing happens to must leave the same bytes.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml
from ours import train_config
from part import CUDA, SHAPES, SMALL, case, draw_tokens, finish, say, say_checked

from olmo_core.config.load import to_dict

SHAPE = SHAPES["small" if SMALL else "40M"]
STEPS, SAVE_INTERVAL, KILLED_AT = 24, 8, 16
ALONE = (sys.executable, "-m", "olmo_core.train")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")


def main(folder: Path) -> None:
    """Train three times, and say whether the models are equal."""
    config = write_run(folder)
    whole = model_of(folder, "whole", [*ALONE, config])
    with case("killed and resumed"):
        kill_in_save(folder / "killed", [*ALONE, config, f"save_folder={folder / 'killed'}"])
        digest = model_of(folder, "killed", [*ALONE, config])
        say_checked("killed and resumed", model_sha256=[whole, digest], within=digest == whole)
    with case("under torchrun"):
        digest = model_of(folder, "torchrun", [*TORCHRUN, *ALONE[1:], config])
        say_checked("under torchrun", model_sha256=[whole, digest], within=digest == whole)


def write_run(folder: Path) -> str:
    """Write tokens and configuration; return the latter's path."""
    path = folder / "tokens.npy"
    draw_tokens(SHAPE, STEPS, document=100).tofile(path)
    config = train_config(SHAPE, path, compiled=False, deterministic=True, documents=True)
    config = replace(
        config,
        max_duration=STEPS,
        stop_at=STEPS,
        save_interval=SAVE_INTERVAL,
        no_pre_train_checkpoint=True,
        core=replace(config.core, save_async=True),
    )
    (folder / "train.yaml").write_text(yaml.safe_dump(to_dict(config)))
    return str(folder / "train.yaml")


def model_of(folder: Path, name: str, command: list[str]) -> str:
    """Train to the end, and return the digest of the model."""
    start = time.perf_counter()
    subprocess.run([*command, f"save_folder={folder / name}"], stderr=subprocess.STDOUT, check=True)
    report = json.loads((folder / name / "result.json").read_text())["report"]
    say(name, seconds=time.perf_counter() - start, **report["numbers"])
    return report["data"]["model_sha256"]


def kill_in_save(run: Path, command: list[str]) -> None:
    """Train until a file of a step's checkpoint is being written, and kill the process."""
    beginning = run / "checkpoints" / f"step{KILLED_AT}.tmp"
    process = subprocess.Popen(command, stderr=subprocess.STDOUT)
    while process.poll() is None and not any(beginning.glob("*/*")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    left = sorted(path.name for path in beginning.parent.glob("*"))
    say("killed", in_a_save=beginning.exists(), exit_code=process.returncode, left=left)
    if not beginning.exists():
        raise RuntimeError("the process was not killed in a save")


if __name__ == "__main__":
    if not CUDA:
        say("note", note="no CUDA device: the command runs on the CPU")
    with tempfile.TemporaryDirectory() as folder, case("command"):
        main(Path(folder))
    finish()
