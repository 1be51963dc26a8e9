"""`olmo new`: a recipe for a person's own text, whole and consistent."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from assets.agreement import rate_doubts
from assets.assemble import build_graph
from assets.recipe import load_recipe
from olmo_core.config.duration import BEGINNING
from olmo_core.errors import ConfigError
from olmo_core.optim.schedule import build_schedule
from pipelines.cli.main import app
from pipelines.cli.new import PASSES, planned

TEXT = "All that one needs to begin is some text.\n" * 6_000  # 252 kB


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path / "recipes"))
    (tmp_path / "recipes").mkdir()
    return tmp_path


def text_folder(folder: Path, text: str = TEXT, name: str = "one.txt") -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text(text)
    return folder


def new(name: str, *arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["new", name, *map(str, arguments)])
    if done.exception:
        raise done.exception
    return done.output


def test_a_recipe_is_whole_and_its_stages_meet(places: Path) -> None:
    names = ("my 'best' texts", "b: {ü}", "2024", "on")
    folders = [text_folder(places / name) for name in names]
    said = new("null", *(word for folder in folders for word in ("--text", folder)))
    assert "my_best_texts: 1 files, about 0.3 MB of text" in said
    assert "olmo run null" in said
    recipe = load_recipe("null")
    graph = build_graph(recipe)
    sources = graph.nodes["raw"].config["sources"]
    assert [source["name"] for source in sources] == ["my_best_texts", "b_", "2024", "on"]
    assert [source["root"] for source in sources] == list(map(str, folders))
    assert graph.nodes["model_card"].config["title"] == "null"
    # The end of stage 1 is the beginning of stage 2, and the cosine goes on beyond it.
    stage1 = recipe.stage1_config()
    assert rate_doubts(recipe) == []
    assert stage1.stop_at is not None
    tokens = stage1.stop_at * stage1.tokens_per_step
    rate = build_schedule(stage1, stage1.stop_at, BEGINNING).learning_rate(tokens)
    ingredients = [config for _, config in recipe.ingredients()]
    assert [config.optimizer.learning_rate for config in ingredients] == [
        pytest.approx(rate, rel=1e-4)
    ] * 3
    vocabulary = graph.nodes["tokenizer"].config["vocab_size"]
    assert {config.model.vocab_size for config in (stage1, *ingredients)} == {vocabulary}


def test_the_length_follows_the_text_or_what_is_said() -> None:
    assert planned(300_000, None)["stage1_tokens"] == pytest.approx(PASSES * 300_000 / 2.2, abs=500)
    assert planned(10**9, None)["stage1_tokens"] == 2_000_000
    assert planned(10**9, 5e6)["stage1_steps"] == 2442


def test_what_cannot_become_a_recipe_is_refused_and_nothing_is_left(places: Path) -> None:
    text = text_folder(places / "texts")
    refused = {
        ("my-model", text): "a recipe's name is a letter, then",
        ("demo", text): "demo: a recipe of this name is there",
        ("mine", places / "nowhere"): "expected an existing folder",
        ("mine", text_folder(places / "pictures", name="a.png")): "no file in",
        ("mine", text_folder(places / "few", "A short text.")): "expected at least 200,000",
        ("mine", text_folder(places / "US$")): "rename the folder",
        ("mine", text, "--text", text_folder(places / "other" / "texts")): "two folders",
        ("mine", text, "--tokens", "9e9"): "at most 4 passes",
    }
    for (name, *rest), message in refused.items():
        with pytest.raises(ConfigError, match=message):
            new(str(name), "--text", *rest)
    assert list((places / "recipes").iterdir()) == []
