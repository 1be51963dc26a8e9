"""The curve and its barrier, by hand; its losses, against models that a test mixes itself."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from olmo_core.checkpoint.weights import load_model
from olmo_core.config.load import build
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.soups import InterpolationConfig, InterpolationJobConfig
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from olmo_core.soups import interpolation
from olmo_core.soups.interpolation import points
from tests.olmo_core.conftest import TEXT, finished, run_in

BETWEEN = ("stage2_ingredient1", "stage2_ingredient2")


@pytest.mark.parametrize(
    ("losses", "lines", "above"),
    [
        ([1.0, 3.0, 2.0], [1.0, 1.5, 2.0], [0.0, 1.5, 0.0]),
        ([2.0, 1.0, 4.0], [2.0, 3.0, 4.0], [0.0, -2.0, 0.0]),
        ([5.0, 5.0, 4.0, 7.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0], [0.0, 1.0, 1.0, 5.0, 0.0]),
    ],
)
def test_points_lie_above_or_below_the_line_between_the_ends(
    losses: list[float], lines: list[float], above: list[float]
) -> None:
    found = points(losses)
    assert [point.loss for point in found] == losses
    assert [point.line for point in found] == pytest.approx(lines)
    assert [point.above_line for point in found] == pytest.approx(above)
    assert [point.share for point in found] == pytest.approx(np.linspace(0, 1, len(losses)))


def write_short_texts(folder: Path) -> Path:
    """Two documents of fewer tokens than a window."""
    path = folder / "paloma" / "prose" / "val" / "part-0.jsonl.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for number, text in enumerate((TEXT[0], TEXT[3])):
            lines.write(json.dumps({"id": str(number), "text": text, "source": "prose"}) + "\n")
    return finished(folder, {})


def loss_by_hand(family: Any, share: float, folder: Path) -> float:
    """Mix the weights, and sum the log-probability of each token after EOS and those before it."""
    first, second = (
        load_file(family.runs[name] / "model" / "model.safetensors") for name in BETWEEN
    )
    mixed = {
        name: ((1 - share) * first[name].astype(float) + share * second[name].astype(float)).astype(
            np.float32
        )
        for name in first
    }
    folder.mkdir()
    save_file(mixed, folder / "model.safetensors")
    config = family.runs[BETWEEN[0]] / "model" / "config.yaml"
    (folder / "config.yaml").write_text(config.read_text())
    model = load_model(folder)
    tokenizer = Tokenizer.from_file(str(family.runs["tokenizer"] / "tokenizer.json"))
    nats, tokens = 0.0, 0
    for text in (TEXT[0], TEXT[3]):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert len(ids) < 64
        with torch.no_grad():
            logits = model(torch.tensor([[0, *ids[:-1]]]))[0].double()
        nats -= logits.log_softmax(-1)[range(len(ids)), ids].sum().item()
        tokens += len(ids)
    return nats / tokens


def test_losses_and_barrier_are_those_of_models_that_are_mixed_by_hand(
    family: Any, tmp_path: Path
) -> None:
    inputs = {name: family.runs[name] for name in (*BETWEEN, "tokenizer")}
    folder = run_in(
        family.new("interpolation"),
        interpolation.make,
        InterpolationJobConfig(between=BETWEEN, points=5, perplexity=PerplexityConfig()),
        {**inputs, "held_out": write_short_texts(tmp_path / "held_out")},
    )
    report = RunFolder(folder).read_result()["report"]
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    losses = [loss_by_hand(family, share, tmp_path / str(share)) for share in shares]
    rows = report["tables"]["curve"]
    assert [row["share"] for row in rows] == shares
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-6)
    heights = [
        loss - (losses[0] + share * (losses[4] - losses[0]))
        for share, loss in zip(shares, losses, strict=True)
    ]
    numbers = report["numbers"]
    assert numbers["barrier"] == pytest.approx(max(heights), abs=1e-5)
    assert numbers["lowest_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert numbers["lowest_at"] == shares[losses.index(min(losses))]
    assert (numbers["from"], numbers["to"]) == BETWEEN
    kept = json.loads((folder / "curve.json").read_text())
    assert kept["points"] == rows
    assert kept["held_out"]["documents"] == 2
    assert all(math.isfinite(row["loss"]) for row in rows)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"between": ["soup", "soup"]}, "between: soup twice; expected two models"),
        ({"points": 2}, "points is 2; expected 3 or more"),
        ({"between": ["soup"]}, "between"),
    ],
)
def test_a_section_that_is_none_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(InterpolationConfig, section, where="interpolation")
