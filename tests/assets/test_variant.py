"""Variants: only what differs is written; the resolved recipe is what counts."""

import shutil
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe
from olmo_core.errors import ConfigError

TINY = Path(__file__).parents[1] / "recipes" / "tiny"


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search path of its own with the complete recipe `base`."""
    folder = tmp_path / "recipes"
    shutil.copytree(TINY, folder / "base")
    monkeypatch.setenv("OLMO_RECIPES", str(folder))
    return folder


def write(folder: Path, name: str, *, extends: str = "base", **files: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "recipe.yaml").write_text(f"extends: {extends}\n")
    for file, text in files.items():
        (folder / name / f"{file}.yaml").write_text(text)


def fingerprints(name: str) -> dict[str, str]:
    return {key: entry.value for key, entry in build_graph(load_recipe(name)).fingerprints.items()}


def test_a_variant_without_changes_is_its_base(recipes: Path) -> None:
    write(recipes, "same")
    assert "same" in find_recipes()
    assert fingerprints("same") == fingerprints("base")


def test_a_variant_is_what_the_edited_copy_would_be(recipes: Path) -> None:
    write(
        recipes,
        "variant",
        stage1="optimizer: {learning_rate: 2e-3}\nseed: 7\n",
        stage2="ingredients: [{seed: 1}, {seed: 2}, {seed: 3}]\n",
        evals="downstream:\n  tasks: [{name: copa, limit: 4}]\n",
    )
    copied = Path(shutil.copytree(recipes / "base", recipes / "copied"))
    tasks = "    - {name: copa, limit: 8}\n    - {name: openbookqa, limit: 4}"
    for file, old, new in (
        ("stage1", "learning_rate: 8e-3", "learning_rate: 2e-3"),
        ("stage1", "seed: 6198", "seed: 7"),
        ("stage2", "- {seed: 42}\n", "- {seed: 1}\n  - {seed: 2}\n"),
        ("stage2", "- {seed: 42069}", "- {seed: 3}"),
        ("evals", tasks, "    - {name: copa, limit: 4}"),
    ):
        path = copied / f"{file}.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    made, expected = fingerprints("variant"), fingerprints("copied")
    assert made == expected
    assert made["tokens"] == fingerprints("base")["tokens"]
    assert made["stage1"] != fingerprints("base")["stage1"]


def test_null_takes_a_mapping_out(recipes: Path) -> None:
    write(recipes, "variant", corpus="stage1_mix: {sources: {licences: null}}\n")
    base, variant = (load_recipe(name).corpus["stage1_mix"] for name in ("base", "variant"))
    assert list(variant["sources"]) == [name for name in base["sources"] if name != "licences"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"stage1": "\noptimizer:\n  learning_rat: 1\n"},
            r"v/stage1\.yaml:3: optimizer\.learning_r",
        ),
        ({"stage1": "seed: x\n"}, r"v/stage1\.yaml:1: seed: expected a whole number, found 'x'"),
        ({"stage1": "save_folder: /x\n"}, r"v/stage1\.yaml:1: save_folder: the graph sets it"),
        ({"stage1": "model: {n_heads: 0}\n"}, r"v/stage1\.yaml:1: model\.n_heads"),
        (
            {"stage2": "model: {n_layers: 3}\n"},
            r"v/stage2\.yaml:1: model\.n_layers: 3 \(ingredient",
        ),
        (
            {"stage2": "ingredients:\n- {seed: 1}\n- {sed: 2}\n"},
            r"v/stage2\.yaml:3: sed: unknown key",
        ),
        (
            {"stage2": "ingredients: [{seed: 1}]\n"},
            r"v/stage2\.yaml:1: ingredients: expected a list",
        ),
        (
            {"evals": "downstrem: {}\n"},
            r"v/evals\.yaml:1: downstrem: unknown section; did you mean",
        ),
        (
            {"evals": "downstream: {tasks: [{name: copb}]}\n"},
            r"v/evals\.yaml:1: downstream\.tasks: no offline data of 'copb'; did you mean 'copa'",
        ),
        (
            {"stage1": "a: 1\n", "stage_1": ""},
            r"v/stage_1\.yaml: no file of a recipe; did you mean",
        ),
    ],
)
def test_an_error_names_the_variant_s_file_and_line(
    recipes: Path, files: dict[str, str], message: str
) -> None:
    write(recipes, "v", **files)
    with pytest.raises(ConfigError, match=message):
        build_graph(load_recipe("v"))


def test_an_error_of_an_inherited_value_names_the_base_s_file(recipes: Path) -> None:
    write(recipes, "v", stage1="\n\nseed: 1\n")
    path = recipes / "base" / "stage1.yaml"
    path.write_text(path.read_text().replace("max_grad_norm: 1.0", "max_grad_norm: x"))
    line = path.read_text().split("\n").index("max_grad_norm: x") + 1
    with pytest.raises(ConfigError, match=rf"base/stage1\.yaml:{line}: max_grad_norm: expected"):
        build_graph(load_recipe("v"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bas\n", r"v/recipe\.yaml:1: extends: unknown recipe 'bas'; did you mean 'base'"),
        ("\nextends: v\n", r"v/recipe\.yaml:2: extends: 'v' is this recipe itself"),
        ("extends: w\n", r"v/recipe\.yaml:1: extends: 'w' itself extends 'base'; extend 'base'"),
        ("extend: base\n", r"v/recipe\.yaml:1: extend: unknown key; did you mean 'extends'"),
        ("extends: [base]\n", r"v/recipe\.yaml:1: extends: expected a text"),
        ("", r"v/recipe\.yaml: extends: key missing"),
    ],
)
def test_what_cannot_be_extended_is_refused(recipes: Path, text: str, message: str) -> None:
    write(recipes, "w")
    write(recipes, "v")
    (recipes / "v" / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe("v")
