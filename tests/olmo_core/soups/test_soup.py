"""Soups whose weights are found: losses are those of `perplexity`, weights those found by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from olmo_core.config.load import build
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.release import ExportConfig
from olmo_core.config.soups import SoupJobConfig, SoupMethodConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.perplexity import perplexity
from olmo_core.evals.rows import read_rows
from olmo_core.files import sha256_file
from olmo_core.release import export
from olmo_core.run.folder import RunFolder
from olmo_core.soups import held_out as losses
from olmo_core.soups import soup
from tests.olmo_core.conftest import finished, run_in

INGREDIENTS = ("stage2_ingredient1", "stage2_ingredient2")
GREEDY = SoupJobConfig(method="greedy", perplexity=PerplexityConfig(batch_tokens=200))


def stir(family: Any, config: SoupJobConfig, **other: Path) -> Path:
    folder = family.new("soup")
    names = (*INGREDIENTS, *(("held_out", "tokenizer") if config.method == "greedy" else ()))
    return run_in(folder, soup.make, config, {name: family.runs[name] for name in names} | other)


def report_of(folder: Path) -> dict[str, Any]:
    return RunFolder(folder).read_result()["report"]


def perplexity_of(family: Any, exported: Path) -> dict[str, float]:
    """The loss of each exported model, by the asset that reports it."""
    inputs = {name: family.runs[name] for name in ("held_out", "stage1_mix", "tokens")}
    folder = run_in(
        family.new("perplexity"),
        perplexity.make,
        PerplexityConfig(batch_tokens=200),
        {**inputs, "export": exported},
    )
    return {
        row["model"]: row["value"]
        for row in read_rows(folder / "rows.parquet")
        if (row["task"], row["metric"]) == ("held_out", "loss")
    }


@pytest.fixture(scope="module")
def reported(family: Any) -> dict[str, float]:
    return perplexity_of(family, family.runs["export"])


@pytest.fixture(scope="module")
def greedy(family: Any) -> Path:
    return stir(family, GREEDY)


def test_greedy_goes_by_the_loss_that_perplexity_reports(
    reported: dict[str, float], greedy: Path
) -> None:
    report = report_of(greedy)
    best, other = sorted(INGREDIENTS, key=lambda name: reported[name])
    first, second = report["tables"]["trials"]
    assert [first["ingredient"], second["ingredient"]] == [best, other]
    assert (first["loss_alone"], second["loss_alone"]) == pytest.approx(
        (reported[best], reported[other]), rel=1e-12
    )
    # the family's soup is the mean of the two
    assert second["loss_in_soup"] == pytest.approx(reported["soup"], rel=1e-6)
    assert second["kept"] == (reported["soup"] <= reported[best])
    assert report["numbers"]["best_ingredient"] == best
    assert report["numbers"]["held_out_loss"] <= report["numbers"]["best_ingredient_loss"]
    kept = json.loads((greedy / "model" / "recipe.json").read_text())
    assert kept["trials"] == report["tables"]["trials"]
    assert kept["held_out"]["documents"] == 5
    assert kept["weights"] == {
        row["model"]: row["weight"] for row in report["tables"]["ingredients"]
    }


def test_what_was_measured_is_what_was_written(family: Any, greedy: Path) -> None:
    exported = run_in(
        family.new("export"),
        export.make,
        ExportConfig(repository="someone/tiny", parity_sequence_length=32),
        {
            "stage1": family.runs["stage1"],
            "soup": greedy,
            "tokenizer": family.runs["tokenizer"],
        },
    )
    found = perplexity_of(family, exported)["soup"]
    assert report_of(greedy)["numbers"]["held_out_loss"] == pytest.approx(found, rel=1e-12)


def test_what_raises_the_loss_is_left_out(family: Any, tmp_path: Path) -> None:
    """An ingredient whose head is far too large ruins every mean that it is in."""
    ruined = tmp_path / "ruined"
    (ruined / "model").mkdir(parents=True)
    source = family.runs["stage2_ingredient1"]
    for name in ("result.json", "model/config.yaml"):
        (ruined / name).write_bytes((source / name).read_bytes())
    tensors = load_file(source / "model" / "model.safetensors")
    tensors["lm_head.weight"] *= 100
    save_file(tensors, ruined / "model" / "model.safetensors")
    folder = stir(family, GREEDY, stage2_ingredient1=ruined)
    report = report_of(folder)
    assert [(row["ingredient"], row["kept"]) for row in report["tables"]["trials"]] == [
        ("stage2_ingredient2", True),
        ("stage2_ingredient1", False),
    ]
    assert report["data"]["weights"] == [0.0, 1.0]
    assert report["data"]["tokens"] == 640_000  # of the one that is in it
    alone = family.runs["stage2_ingredient2"] / "model" / "model.safetensors"
    assert report["data"]["model_sha256"] == sha256_file(alone)


def test_a_loss_is_measured_once(
    family: Any, greedy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(losses, "score_documents", never)
    again = stir(family, GREEDY)
    results = [RunFolder(folder).read_result()["digest"] for folder in (greedy, again)]
    assert results[0] == results[1]


def test_a_diverged_ingredient_is_named(family: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "model").mkdir(parents=True)
    source = family.runs["stage2_ingredient1"]
    for name in ("result.json", "model/config.yaml"):
        (broken / name).write_bytes((source / name).read_bytes())
    tensors = load_file(source / "model" / "model.safetensors")
    tensors["lm_head.weight"][:] = np.nan
    save_file(tensors, broken / "model" / "model.safetensors")
    with pytest.raises(InputError, match=r"stage2_ingredient1: log-likelihood nan of code;"):
        stir(family, GREEDY, stage2_ingredient1=broken)


def trained(folder: Path, tensor: list[float], tokens: int | None) -> Path:
    (folder / "model").mkdir(parents=True)
    save_file({"a": np.array(tensor, np.float32)}, folder / "model" / "model.safetensors")
    (folder / "model" / "config.yaml").write_text(yaml.safe_dump({"model": {"d_model": 2}}))
    return finished(folder, {"step": 7, "tokens": tokens})


def test_ingredients_weigh_as_many_tokens_as_they_have_seen(tmp_path: Path) -> None:
    """OLMo 2 13B has three of 100B tokens and one of 300B."""
    values, tokens = ([6.0, 0.0], [0.0, 12.0], [-6.0, 6.0], [2.0, 8.0]), (100, 100, 100, 300)
    inputs = {
        f"stage2_ingredient{number}": trained(tmp_path / str(number), value, count)
        for number, (value, count) in enumerate(zip(values, tokens, strict=True), start=1)
    }
    folder = tmp_path / "root" / "recipe" / "soup" / "0"
    run_in(folder, soup.make, SoupJobConfig(method="token_weighted"), inputs)
    found = load_file(folder / "model" / "model.safetensors")["a"]
    # (6 + 0 - 6)/6 + 2/2 and (0 + 12 + 6)/6 + 8/2
    np.testing.assert_allclose(found, [1.0, 7.0], rtol=1e-7)
    assert report_of(folder)["data"]["tokens"] == 600
    assert [row["weight"] for row in report_of(folder)["tables"]["ingredients"]] == [
        *[0.166667] * 3, 0.5
    ]  # fmt: skip


def test_a_run_without_tokens_has_no_share(tmp_path: Path) -> None:
    inputs = {str(n): trained(tmp_path / str(n), [0.0], count) for n, count in ((1, 5), (2, None))}
    with pytest.raises(InputError, match=r"2: result\.json: tokens: None; expected a number"):
        soup.token_shares(inputs)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"method": "greedy", "weights": [0.5, 0.5]}, "weights: method greedy finds its own"),
        ({"weights": [0.5, 0.6]}, r"weights: they sum to 1\.1"),
        ({"method": "best"}, "method"),
        ({"last_checkpoints": 0}, "last_checkpoints is 0; expected 1 or more"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(
    section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(SoupMethodConfig, section, where="soup")


def test_no_job_opens_a_soup_without_its_losses(family: Any) -> None:
    with pytest.raises(ConfigError, match="perplexity: missing"):
        stir(family, SoupJobConfig(method="greedy"))
