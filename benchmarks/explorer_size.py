"""The explorer at size: how long the table of many experiments takes, and a comparison of some.

The run folders are made up, as small as a run's records can be, with a row per step of the right
size. What is timed is a request to the application itself, without a browser.

    python benchmarks/explorer_size.py --experiments 200 --steps 391
"""

import argparse
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from olmo_core.files import write_json
from pipelines.explorer.app import application

TOKENS = 2048  # of a step
COMPARED = 20


def write_run(root: Path, number: int, steps: int) -> str:
    """Write the records of a finished run; return its id."""
    version = f"{random.Random(number).getrandbits(48):012x}"
    name = f"lr_{number}/stage1/{version}"
    folder = root / name
    folder.mkdir(parents=True)
    said = {"schema_version": 1, "recipe": f"lr_{number}", "asset": "stage1", "partition": None}
    config = {"optimizer": {"learning_rate": 1e-3 * (1 + number)}, "seed": number}
    config |= {f"key{key}": key for key in range(100)}
    parts = {"module": "olmo_core.train", "config": config, "code": {}, "inputs": {}}
    launch = {**said, "fingerprint": version, "parts": parts, "inputs": {}}
    write_json(folder / "launch.json", launch)
    with (folder / "metrics.jsonl").open("w") as lines:
        for step in range(1, steps + 1):
            lines.write(json.dumps(row(step, number)) + "\n")
    status = {"schema_version": 1, "state": "done", "unit": "steps", "step": steps, "total": steps}
    write_json(folder / "status.json", {**status, "loss": 5.3, "heartbeat": 1e9})
    report = {"numbers": {}, "data": {"step": steps, "tokens": steps * TOKENS}, "tables": {}}
    result = {**said, "inputs": {}, "finished": 1e9 + number, "report": report}
    write_json(folder / "result.json", result)
    return name


def row(step: int, number: int) -> dict[str, Any]:
    """Return a row of metrics.jsonl, of about 700 bytes as a training's."""
    loss = 5 + 4 * math.exp(-step / 50) + number / 1000
    return {
        "step": step,
        "train/masked_instances": 0.0,
        "train/CrossEntropyLoss": loss,
        "throughput/total_tokens": step * TOKENS,
        "optim/total_grad_norm": 0.5,
        "optim/learning_rate_group0": 0.004,
        **{f"throughput/device/figure number {key}": 1 / (key + step) for key in range(10)},
        "spike/loss": 0,
        "attempt": 1,
        "time": 1e9 + step,
    }


def seconds(client: TestClient, address: str) -> float:
    """Return how long a page takes."""
    began = time.perf_counter()
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - began


def main() -> None:
    """Print what pages take, the first time and then."""
    parser = argparse.ArgumentParser(description="Time pages of the explorer.")
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--steps", type=int, default=391)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ids = [write_run(root, each, arguments.steps) for each in range(arguments.experiments)]
        client = TestClient(application(root), base_url="http://127.0.0.1")
        compare = "/compare?" + "&".join(f"run={each}" for each in ids[:COMPARED])
        for name, address in {"table": "/", "compared": compare}.items():
            first, *again = (seconds(client, address) for _ in range(6))
            print(f"{name}: {first:.2f} s first, then {sorted(again)[2]:.2f} s")


if __name__ == "__main__":
    main()
