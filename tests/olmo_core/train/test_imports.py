"""What a training job on one rank must not import, since each takes seconds of its start."""

import subprocess
import sys
from pathlib import Path


def test_training_on_one_rank_starts_without_the_compiler(
    config_file: Path, tmp_path: Path
) -> None:
    values = (f"save_folder={tmp_path / 'run'}", "stop_at=2")
    command = [sys.executable, "-X", "importtime", "-m", "olmo_core.train", str(config_file)]
    done = subprocess.run([*command, *values], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert "torch" in imported
    assert not {"torch._dynamo", "torch._inductor"} & set(imported)
    # Checkpoints need it: after the first step
    first_step = next(i for i, line in enumerate(imported) if "step 1/" in line)
    assert "torch.distributed.tensor" not in imported[:first_step]
