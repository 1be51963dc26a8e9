"""Models of others are found, known by their content, and scored as our own are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from olmo_core.config.evals import DownstreamConfig, LeaderboardConfig, TaskConfig
from olmo_core.config.load import build
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.config.released import ReleasedModel, ReleasedModels
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals import downstream, leaderboard, models
from olmo_core.evals.perplexity import perplexity
from olmo_core.evals.released import find, is_released, lacking, models_identity
from olmo_core.evals.rows import read_rows
from olmo_core.files import sha256_file
from olmo_core.run.folder import RunFolder
from tests.olmo_core.conftest import run_in
from tests.olmo_core.evals.released_models import COMMIT, write_cache, write_folder

HUB = "someone/else"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def theirs(family: Any, tmp_path: Path) -> Path:
    return write_folder(tmp_path / "theirs", family.runs["export"] / "exports" / "soup")


def content(name: str, model: ReleasedModel) -> Any:
    return models_identity({name: model})["models"][name]["content"]


def test_equal_models_are_equal_wherever_they_lie(theirs: Path, cache: Path) -> None:
    write_cache(cache, theirs, HUB)
    folder, hub = ReleasedModel(folder=str(theirs)), ReleasedModel(hub=HUB, revision="main")
    expected = {path.name: sha256_file(path) for path in theirs.iterdir()}
    assert content("a", folder) == content("a", hub) == expected
    moved = theirs.rename(theirs.with_name("elsewhere"))
    before, after = (models_identity({"a": ReleasedModel(folder=str(f))}) for f in (moved, theirs))
    assert "elsewhere" not in json.dumps(before)
    assert "expected a folder in Hugging Face layout" in after["models"]["a"]["content"]
    values = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**values, "eos_token_id": 7}))
    changed = content("a", ReleasedModel(folder=str(moved)))
    assert {name for name in expected if changed[name] != expected[name]} == {"config.json"}


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_revision_of_the_hub_is_resolved_to_its_commit(
    theirs: Path, cache: Path, revision: str
) -> None:
    write_cache(cache, theirs, HUB)
    assert find("a", ReleasedModel(hub=HUB, revision=revision)).commit == COMMIT


def test_what_is_not_in_the_cache_is_said_with_the_command_that_fetches_it(
    theirs: Path, cache: Path
) -> None:
    fetch = rf"where there is a network: hf download {HUB} --revision main$"
    asked = ReleasedModel(hub=HUB, revision="main")
    with pytest.raises(InputError, match=f"^a: {HUB} at main is not in the hub's cache.*{fetch}"):
        find("a", asked)
    snapshot = write_cache(cache, theirs, HUB)
    (snapshot / "model.safetensors").resolve().unlink()  # as of a download that was ended
    with pytest.raises(InputError, match=f"model.safetensors missing.*{fetch}"):
        find("a", asked)
    assert len(lacking({"a": asked, "b": ReleasedModel(folder="relative")})) == 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama"}, "`perplexity: false` has it scored on tasks alone"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of the model's own would have to run"),
        ({"model_type": None}, "no model_type"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused_beforehand(
    family: Any, tmp_path: Path, cache: Path, config: dict[str, Any], said: str
) -> None:
    exported = family.runs["export"] / "exports" / "soup"
    folder = write_folder(tmp_path / "other", exported, **config)
    write_cache(cache, folder, HUB)
    for model in (ReleasedModel(folder=str(folder)), ReleasedModel(hub=HUB, revision="main")):
        with pytest.raises(InputError, match=said) as error:
            find("a", model)
        assert "hf download" not in str(error.value)  # it would not help
    if config.get("model_type") == "llama":
        assert find("a", ReleasedModel(folder=str(folder), perplexity=False)).model_type == "llama"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": {}}, "expected either hub, with revision, or folder"),
        ({"a": {"hub": "x/y", "folder": "/z", "revision": "main"}}, "expected either hub"),
        ({"a": {"hub": "x/y"}}, "revision: missing; expected a commit"),
        ({"a": {"hub": "x", "revision": "main"}}, "'x' is not ORGANISATION/NAME"),
        ({"a": {"folder": "/z", "revision": "main"}}, "revision: a folder has none"),
        ({"a": {"folders": "/z"}}, "unknown key; did you mean 'folder'"),
        ({"soup": {"folder": "/z"}}, "rows have a model or a baseline of this name"),
        ({"a b": {"folder": "/z"}}, "expected a name of a letter"),
    ],
)
def test_a_malformed_section_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(ReleasedModels, {"models": values})


def evaluated(family: Any, released: Mapping[str, ReleasedModel]) -> dict[str, Path]:
    """The run folders of `models` and of what reads it."""
    config = ReleasedModels(models=released)
    runs = {"models": run_in(family.new("models"), models.make, config, {})}
    inputs = {**family.runs, **runs}
    tasks = DownstreamConfig(tasks=(TaskConfig(name="copa", limit=4, num_fewshot=0),))
    figures = PerplexityConfig(batch_tokens=200)
    runs["downstream"] = run_in(family.new("downstream"), downstream.make, tasks, inputs)
    runs["perplexity"] = run_in(family.new("perplexity"), perplexity.make, figures, inputs)
    runs["leaderboard"] = run_in(
        family.new("leaderboard"), leaderboard.make, LeaderboardConfig(), {**inputs, **runs}
    )
    return runs


def test_they_are_scored_and_shown_beside_ours(family: Any, theirs: Path, cache: Path) -> None:
    write_cache(cache, theirs, HUB)
    runs = evaluated(
        family,
        {
            "olmo_hub": ReleasedModel(hub=HUB, revision="main"),
            "olmo_folder": ReleasedModel(folder=str(theirs), perplexity=False),
        },
    )
    report = RunFolder(runs["models"]).read_result()["report"]
    hub, folder = report["tables"]["models"]
    assert (hub["revision"], hub["asked"]) == (f"{HUB}@{COMMIT}", "main")
    assert (folder["revision"].partition("@")[0], folder["asked"]) == ("folder", None)
    for name in ("downstream", "perplexity"):
        rows = read_rows(runs[name] / "rows.parquet")
        figures: dict[str, dict[tuple[str, str], float]] = {}
        for row in rows:
            figures.setdefault(row["model"], {})[row["task"], row["metric"]] = row["value"]
            assert is_released(row) == row["model"].startswith("olmo_")
            if is_released(row):
                assert (row["recipe"], row["run"], row["step"], row["tokens"]) == (None,) * 4
        assert figures["olmo_hub"] == figures["soup"]  # its very weights, by the same code
        assert ("olmo_folder" in figures) == (name == "downstream")
    text = (runs["leaderboard"] / "leaderboard.md").read_text()
    shown = [line.split(" | ")[0].strip("| ") for line in text.split("\n\n")[0].splitlines()[2:]]
    assert shown[-3:] == ["soup", "olmo_hub", "olmo_folder"]
    assert f"Released by others: olmo_hub ({HUB}@{COMMIT}), olmo_folder (folder@" in text
    numbers = RunFolder(runs["leaderboard"]).read_result()["report"]["numbers"]
    assert not numbers["lowest_loss_model"].startswith("olmo_")


def test_shards_of_others_are_read_by_their_index(family: Any, tmp_path: Path, cache: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_folder(tmp_path / "sharded", family.runs["export"] / "exports" / "soup")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [sorted(tensors)[::2], sorted(tensors)[1::2]]
    index: dict[str, str] = {}
    for number, names in enumerate(halves, start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file)
        index |= dict.fromkeys(names, file)
    # Without digests, as transformers writes it.
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    runs = evaluated(family, {"sharded": ReleasedModel(folder=str(folder))})
    rows = read_rows(runs["perplexity"] / "rows.parquet")
    losses = {row["model"]: row["value"] for row in rows if row["metric"] == "loss"}
    assert losses["sharded"] == losses["soup"]
    (folder / file).unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors missing"):
        find("sharded", ReleasedModel(folder=str(folder)))


def test_files_that_have_changed_are_not_scored(family: Any, theirs: Path, cache: Path) -> None:
    snapshot = write_cache(cache, theirs, HUB)
    config = ReleasedModels(models={"a": ReleasedModel(hub=HUB, revision="main")})
    run = run_in(family.new("models"), models.make, config, {})
    inputs = {"export": family.runs["export"], "models": run}
    assert [model.model for model in models.evaluated_models(inputs)][-1] == "a"
    weights = (snapshot / "model.safetensors").resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="changed since it was made"):
        models.evaluated_models(inputs)
    with pytest.raises(InputError, match="damaged; delete it, and fetch the model again"):
        run_in(family.new("models"), models.make, config, {})
    weights.unlink()
    with pytest.raises(InputError, match="gone"):
        models.evaluated_models(inputs)


def test_a_tokenizer_with_code_of_its_own_is_refused(theirs: Path) -> None:
    file = theirs / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": {"AutoTokenizer": []}}))
    with pytest.raises(InputError, match=r"tokenizer_config\.json: auto_map"):
        find("a", ReleasedModel(folder=str(theirs)))


def test_weights_that_are_cut_off_or_of_two_kinds_are_refused(family: Any, theirs: Path) -> None:
    config = ReleasedModels(models={"a": ReleasedModel(folder=str(theirs))})
    (theirs / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="both model"):
        find("a", config.models["a"])
    (theirs / "model.safetensors.index.json").unlink()
    weights = theirs / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        run_in(family.new("models"), models.make, config, {})
