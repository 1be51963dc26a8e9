"""The card says what the runs say."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from olmo_core.config.load import build
from olmo_core.config.model_card import ModelCardConfig
from olmo_core.energy import EnergyConfig, Use
from olmo_core.errors import ConfigError
from olmo_core.evals.rows import SCHEMA, exported_models, write_rows
from olmo_core.release import model_card
from olmo_core.release.card_data import data_title
from olmo_core.release.card_facts import Facts, read_facts
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job
from tests.olmo_core.conftest import finished


@pytest.fixture(scope="module")
def leaderboard(family: Any) -> Path:
    folder = family.new("leaderboard")
    rows = [
        model.row(task=task, metric=metric, value=value, stderr=stderr, n=40)
        for model in exported_models(family.runs["export"])
        for task, metric, value, stderr in (
            ("held_out", "loss", 3.25, None),
            ("copa", "acc", 0.55, 0.08),
        )
    ]
    write_rows(folder / "rows.parquet", rows)
    (folder / "leaderboard.md").write_text("| model | loss |\n| --- | ---: |\n| soup | 3.250 |\n")
    finished(folder, {})
    return folder


def test_a_card_without_a_stage_2_is_of_stage_1(family: Any, leaderboard: Path) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    alone = dataclasses.replace(facts, final="stage1")  # the export of the family has more models
    text = model_card.card(model_card.CardConfig(title="Tiny"), alone)
    assert facts.soup is None
    assert "`main` is the last checkpoint of stage 1." in text
    assert "is the soup" not in text
    data: Any = ModelCard(text).data
    assert len(data.eval_results) == 1


@pytest.mark.parametrize(
    ("weights", "data", "said"),
    [
        ([0.0, 0.0, 1.0], {}, "the weights of `c`, as the other ingredients have weight 0.\n\n|"),
        (
            [0.5, 0.0, 0.5],
            {"method": "greedy", "last_checkpoints": 1},
            "the mean of the weights of `a`, `c`, summed in f64 and rounded once.\n\n"
            "Its ingredients were chosen greedily by the loss on held-out documents; on these its "
            "loss flatters it.\n\n|",
        ),
        (
            [0.25, 0.0, 0.75],
            {"method": "mean", "last_checkpoints": 3},
            "0.25 × `a` + 0.75 × `c`, summed in f64 and rounded once.\n\n"
            "Of each run the last 3 checkpoints were averaged first.\n\n|",
        ),
        (
            [1.0],
            {"method": "mean", "last_checkpoints": 3},
            "the mean of the last checkpoints of `a`.\n\nOf each run the last 3 checkpoints",
        ),
    ],
)
def test_a_card_says_how_each_ingredient_counted(
    weights: list[float], data: dict[str, Any], said: str, family: Any, leaderboard: Path
) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    rows = [
        {"model": name, "weight": weight, "step": 10, "tokens": 100, "sha256": "0" * 12}
        for name, weight in zip("abc", weights, strict=False)
    ]
    soup = {"report": {"tables": {"ingredients": rows}, "data": data}}
    souped = dataclasses.replace(
        facts, results={**facts.results, "soup": soup}, launches={**facts.launches, "soup": {}}
    )
    text = model_card.card(model_card.CardConfig(title="Tiny"), souped)
    assert f"`main` is the soup: {said}" in text


def test_a_card_says_which_ingredients_read_a_mix() -> None:
    def read(*mixes: str) -> dict[str, Any]:
        rows = {"report": {"tables": {"sources": []}}}
        trained = {
            f"stage2_ingredient{number}": {"inputs": {"stage1": {}, mix: {}}}
            for number, mix in enumerate(mixes, start=1)
        }
        return {"tokens": rows, **dict.fromkeys(mixes, rows), **trained}

    one, two = "stage2_mix", "stage2_mix_300b"
    assert data_title(one, read(one, one)) == "Stage 2:"
    assert data_title(two, read(one, two)) == "Stage 2 (`stage2_ingredient2`):"
    assert data_title(one, read(one, two, one)) == (
        "Stage 2 (`stage2_ingredient1`, `stage2_ingredient3`):"
    )


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ((), "All documents after deduplication and filters:"),
        (("a", "b"), "All documents of published token files, as they are:"),
        (
            ("b",),
            "All documents after deduplication and filters, and those of published token files as "
            "they are (b):",
        ),
    ],
)
def test_published_token_files_are_not_said_to_be_filtered(
    published: tuple[str, ...], said: str
) -> None:
    report = {
        "tables": {"sources": [{"source": "a"}, {"source": "b"}]},
        "data": {"published": list(published)},
    }
    assert data_title("tokens", {"tokens": {"report": report}}) == said


def test_a_card_without_perplexity_speaks_of_no_held_out_documents(
    family: Any, leaderboard: Path
) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    said = "are of the documents of `held_out`; lower is better"
    assert said in model_card.card(model_card.CardConfig(title="Tiny"), facts)
    tasks_alone = [row for row in facts.rows if row["metric"] != "loss"]
    without = dataclasses.replace(facts, rows=tasks_alone)
    assert said not in model_card.card(model_card.CardConfig(title="Tiny"), without)


@pytest.mark.parametrize(
    ("limit_to", "said"), [("sample", "sample of 40 documents"), ("first", "first 40 documents")]
)
def test_a_limited_score_says_of_which_documents(
    family: Any, leaderboard: Path, limit_to: str, said: str
) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    limited = [{**row, "limit": 40, "limit_to": limit_to} for row in facts.rows]
    text = model_card.card(
        model_card.CardConfig(title="Tiny"), dataclasses.replace(facts, rows=limited)
    )
    data: Any = ModelCard(text).data  # the hub's own reader
    [score] = data.eval_results
    assert score.metric_name == f"acc, 0 shots, {said}"
    assert f"| 40 | {limit_to} |" in text


def test_a_limit_above_the_number_of_documents_is_none(family: Any, leaderboard: Path) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    whole = [{**row, "limit": 1000, "limit_to": None} for row in facts.rows]
    config, facts = model_card.CardConfig(title="Tiny"), dataclasses.replace(facts, rows=whole)
    [result] = model_card.front_matter(config, facts)["model-index"][0]["results"]
    assert result["metrics"][0]["name"] == "acc, 0 shots"


def facts_of(family: Any, leaderboard: Path, figures: list[dict[str, Any]]) -> Facts:
    """The facts of the family, with these figures of the soup alone."""
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    absent = dict.fromkeys(SCHEMA.names)
    rows = [{**absent, "model": "soup", "n": 40, **figure} for figure in figures]
    return dataclasses.replace(facts, rows=rows)


def test_the_hub_is_told_the_figure_that_a_suite_shows_of_a_data_set_s_own_name(
    family: Any, leaderboard: Path
) -> None:
    figures = [
        {"task": task, "metric": metric, "value": 0.5, "stderr": 0.1, **more}
        for task, metric, more in (
            ("olmo1_arc_easy", "acc", {"headline": False, "split": "validation"}),
            ("olmo1_arc_easy", "acc_uncond", {"headline": True, "split": "validation"}),
            ("olmo1_truthfulqa", "chance", {"headline": False, "split": "validation"}),
            ("olmes_piqa_rc", "acc_per_char", {"headline": False, "split": "validation"}),
            ("olmes_piqa", "best", {"headline": True, "split": "validation"}),
            ("olmes_core", "mean", {"headline": True}),
            ("lambada_openai", "acc", {"split": "test"}),
            ("mine", "acc", {"split": "test"}),
        )
    ]
    config, facts = model_card.CardConfig(title="Tiny"), facts_of(family, leaderboard, figures)
    data: Any = ModelCard(model_card.card(config, facts)).data  # the hub's own reader
    assert [
        (
            each.task_name,
            each.dataset_name,
            each.dataset_type,
            each.dataset_config,
            each.metric_type,
        )
        for each in data.eval_results
    ] == [
        ("olmo1_arc_easy", "ai2_arc (ARC-Easy)", "allenai/ai2_arc", "ARC-Easy", "acc_uncond"),
        ("olmes_piqa", "piqa", "baber/piqa", None, "best"),
        (
            "lambada_openai",
            "lambada_openai (default)",
            "EleutherAI/lambada_openai",
            "default",
            "acc",
        ),
        ("mine", "mine", "mine", None, "acc"),
    ]


def test_a_loss_is_said_to_be_of_its_own_set(family: Any, leaderboard: Path) -> None:
    figures = [
        {"task": task, "metric": "loss", "value": value}
        for task, value in (("books", 2.5), ("books/a", 2.0), ("paloma", 9.5))
    ]
    facts = facts_of(family, leaderboard, figures)
    text = model_card.card(model_card.CardConfig(title="Tiny"), facts)
    assert "loss 2.500 nats per token on `books`." in text
    assert "are of the documents of `books`, or of the set that a title names (`paloma`);" in text
    assert "held-out" not in text


def test_the_hub_is_told_of_emissions_that_are_known_and_of_no_others(
    family: Any, leaderboard: Path
) -> None:
    facts = facts_of(family, leaderboard, [])
    config = model_card.CardConfig(title="Tiny", hardware="Two old GPUs.")
    assert not any(facts.uses.values())  # made by no job
    assert "co2_eq_emissions" not in model_card.card(config, facts)
    stated = EnergyConfig(watts_per_device=500, pue=1.2, carbon_intensity_kg_per_kwh=0.5)
    use = Use(seconds=7200, devices=2, stated=stated)  # 2 kWh, of the site 2.4
    known = dataclasses.replace(facts, uses={name: [use] for name in facts.configs})
    text = model_card.card(config, known)
    data: Any = ModelCard(text).data  # the hub's own reader
    assert data.co2_eq_emissions["emissions"] == pytest.approx(1200 * len(facts.configs))
    assert data.co2_eq_emissions["training_type"] == "pre-training"
    assert data.co2_eq_emissions["hardware_used"] == "Two old GPUs."
    assert "| assumed, 500 W per device |" in text


def test_a_tag_of_dashes_does_not_cut_the_card(family: Any, leaderboard: Path) -> None:
    facts = facts_of(family, leaderboard, [])
    config = model_card.CardConfig(title="Tiny", tags=("olmo---", "---"))
    text = model_card.card(config, facts)
    data: Any = ModelCard(text).data  # the hub's own reader
    assert data.tags == ["olmo---", "---"]
    shown = model_card.body(config, facts)
    assert shown.startswith("# Tiny\n")
    assert text.endswith(f"---\n\n{shown}")


def test_card(family: Any, leaderboard: Path) -> None:
    folder = family.new("model_card")
    names = ("export", "stage1", "stage2_ingredient1", "stage2_ingredient2", "soup")
    inputs = {name: family.runs[name] for name in (*names, "tokens", "stage1_mix")}
    config = model_card.CardConfig(
        title="Tiny",
        description="A test.",
        limitations=("It is random.",),
        hardware="Two old CPUs.",
        citation="@misc{tiny}",
        datasets=("someone/text",),
        base_model="someone/base",
    )
    with Job.open(folder) as job:
        job.finish(model_card.make(config, {**inputs, "leaderboard": leaderboard}, job))
    text = (folder / "README.md").read_text()
    assert str(family.root) not in text
    data: Any = ModelCard(text).data  # the hub's own reader
    assert data.license == "apache-2.0"
    assert [(r.dataset_name, r.metric_value) for r in data.eval_results] == [
        ("super_glue (copa)", 0.55)
    ]
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["library_name"] == "transformers"
    assert (head["datasets"], head["base_model"]) == (["someone/text"], "someone/base")
    report = RunFolder(folder).read_result()["report"]
    assert report["markdown"]["card"].startswith("# Tiny\n")
    assert text.endswith(report["markdown"]["card"])
    for expected in (
        "the mean of the weights of `stage2_ingredient1`, `stage2_ingredient2`, summed in f64",
        "| stage2_ingredient1 | stage2-ingredient1-step10-tokens640K | 10 | 640,000 |",
        "| soup | main | 10 | 1,280,000 | 7,680,000 |",
        "| stage2_ingredient2 | stage2-ingredient2-step10-tokens640K | 10 | 640,000 | 7,040,000 |",
        "| copa | acc | 0.5500 | 0.0800 | 40 |",
        "7,680,000 tokens were read to make it",
        "```bibtex\n@misc{tiny}\n```",
        "Two old CPUs.",
        "| soup | 3.250 |",
        "| `model.d_model` | 32 | 32 | 32 |",
        "`stage1` 12,800 tokens, `stage2_ingredient1` 1,280 tokens",
        "(`Olmo2ForCausalLM`), loss 3.250 nats per token on `held_out`.",
        "- It is random.",
        "standard errors of up to 0.080",
        'from_pretrained("someone/tiny")',
    ):
        assert expected in text, expected
    assert RunFolder(folder).finished


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": "nonsense-9"}, r"license: 'nonsense-9': expected an identifier of the hub's"),
        ({"license": "Apache-2.0"}, r"did you mean 'apache-2\.0'\?"),
        ({"language": ["english"]}, "language: 'english': expected a code of ISO 639-1"),
        ({"language": []}, "language: empty"),
        ({"license": "other"}, "license_name: missing"),
        ({"license_name": "mine"}, "license_name: only `license: other` has one"),
        ({"title": " "}, "title: empty"),
        ({"datasets": ["dolma"]}, "datasets: 'dolma' is not ORGANISATION/NAME"),
        ({"base_model": "a/b/c"}, "base_model: 'a/b/c' is not ORGANISATION/NAME"),
    ],
)
def test_what_the_hub_does_not_know_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ModelCardConfig, {"title": "Tiny", **change}, where="model_card")


def test_a_card_of_texts_that_are_not_its_own_says_so(family: Any, leaderboard: Path) -> None:
    inputs = {name: family.runs[name] for name in ("export", "stage1", "tokens", "stage1_mix")}
    facts = read_facts({**inputs, "leaderboard": leaderboard})
    config = model_card.CardConfig(title="copy", unconfirmed="Written for demo, left out.")
    assert "# copy\n\n*Written for demo, left out.*" in model_card.card(config, facts)
