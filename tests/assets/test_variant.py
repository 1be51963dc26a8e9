"""Variants: only what differs is written; the resolved recipe is what counts."""

import shutil
from pathlib import Path

import pytest

from assets.assemble import build_graph
from assets.recipe import find_recipes, load_recipe
from assets.variant import variants_of
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
            r"v/evals\.yaml:1: downstream\.tasks: no task 'copb'; did you mean 'copa'",
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


def test_settings_are_saved_as_a_recipe_that_holds_only_them(recipes: Path) -> None:
    settings = ["stage1.optimizer.learning_rate=2e-3", "evals.downstream.tasks=[{name: copa}]"]
    [variant] = variants_of("base", settings, "faster")
    folder = variant.save()
    assert folder == recipes / "faster"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "recipe.yaml": "extends: base\n",
        "stage1.yaml": "optimizer:\n  learning_rate: 2e-3\n",
        "evals.yaml": "downstream:\n  tasks:\n  - name: copa\n",
    }
    assert load_recipe("faster").stage1_config().optimizer.learning_rate == 0.002
    saved = build_graph(load_recipe("faster")).fingerprints["leaderboard"].value
    assert build_graph(variant.recipe()).fingerprints["leaderboard"].value == saved
    [again] = variants_of("base", settings, "faster")
    assert again.save() == folder
    assert sorted(path.name for path in recipes.iterdir()) == ["base", "faster"]


def test_several_values_make_a_variant_per_combination(recipes: Path) -> None:
    settings = ["stage1.seed=1,2", "stage1.optimizer.betas=[0.9, 0.95],[0.9, 0.99]"]
    made = variants_of("base", settings, "v")
    assert [variant.name for variant in made] == ["v_1", "v_2", "v_3", "v_4"]
    configs = [variant.recipe().stage1_config() for variant in made]
    assert [(config.seed, config.optimizer.betas[1]) for config in configs] == [
        (1, 0.95),
        (1, 0.99),
        (2, 0.95),
        (2, 0.99),
    ]


@pytest.mark.parametrize("value", ['"a, b"', "${oc.env:ABSENT,b}", "[a, b]", "{a: 1, b: 2}", ""])
def test_a_comma_within_a_value_makes_no_second_variant(recipes: Path, value: str) -> None:
    assert len(variants_of("base", [f"stage1.run_name={value}"], "v")) == 1


def test_where_no_folder_is_named_variants_are_saved_under_the_root(
    recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_RECIPES")
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    [variant] = variants_of("demo", ["stage1.seed=1"], "mine")
    assert variant.save() == tmp_path / "root" / "recipes" / "mine"
    assert load_recipe("mine").stage1_config().seed == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "stage1.optimizer.learning_rat=1",
            r"--set stage1: optimizer\.learning_rat: unknown key; did",
        ),
        ("stage1.seed=x", r"--set stage1: seed: expected a whole number, found 'x'"),
        ("stage1.model.n_heads=0", r"--set stage1: model\.n_heads"),
        (
            "stage3.seed=1",
            r"--set stage3\.seed=1: no file 'stage3' in a recipe; did you mean 'stage",
        ),
        ("seed=1", r"--set seed=1: expected <file>\.<key>=<value>"),
        ("stage1.seed", r"--set stage1\.seed: expected <file>\.<key>=<value>"),
        ("stage1.seed=1,1", r"--set stage1\.seed=1,1: two values are equal"),
        ("evals.downstrem.batch_size=1", r"--set evals: downstrem: unknown section; did you mean"),
        ("stage1.seed=[1", r"seed=\[1': the value is not valid YAML"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(recipes: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_graph(variants_of("base", [setting], "v")[0].recipe())


@pytest.mark.parametrize(
    ("of", "name", "message"),
    [
        ("base", "base", r"--as base: a recipe of this name with other values is there"),
        (
            "base",
            "taken",
            r"--as taken: .* choose another name, or run it as it stands: olmo run t",
        ),
        ("taken", "v", r"'taken' itself extends 'base', and a variant of a variant is not kept"),
        ("bas", "v", r"unknown recipe 'bas'; did you mean 'base'"),
        ("base", "a b", r"'--as a b': a recipe's name is a letter"),
    ],
)
def test_a_variant_that_cannot_be_saved_is_refused(
    recipes: Path, of: str, name: str, message: str
) -> None:
    write(recipes, "taken", stage1="seed: 2\n")
    with pytest.raises(ConfigError, match=message):
        variants_of(of, ["stage1.seed=1"], name)


def test_a_folder_that_cannot_be_written_is_named(recipes: Path) -> None:
    [variant] = variants_of("base", ["stage1.seed=1"], "v")
    (recipes / "v").write_text("no folder")
    with pytest.raises(ConfigError, match=r"recipes/v: cannot be saved: not a directory"):
        variant.save()
    assert sorted(path.name for path in recipes.iterdir()) == ["base", "v"]
