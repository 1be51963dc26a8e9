"""Recipes whose sources are published token files, alone or beside text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.assemble import build_graph
from assets.corpus.doors import TEXT_ASSETS, absences, licences, source_names
from assets.evals.sweep import sweep_node
from assets.paths import CHECKOUT
from assets.recipe import load_recipe
from olmo_core.corpus.tokens.published import list_files, published_dtype
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.errors import ConfigError
from pipelines.cli import inspect_corpus
from pipelines.cli.plan import print_plan
from tests.conftest import printed

TINY = Path(__file__).parents[2] / "recipes" / "tiny"
RECIPES = CHECKOUT / "pipelines" / "recipes"
TINY_S = {*TEXT_ASSETS} - {"decontaminated"}  # tiny does without


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe `mine` of two published sources and no text; its files are not here."""
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    monkeypatch.setenv("OLMO_ROOT", str(tmp_path / "root"))
    folder = Path(shutil.copytree(TINY, tmp_path / "mine"))
    write(
        folder,
        tokenizer={"vocab_size": 1024, "file": f"{tmp_path}/tokenizer.json"},
        tokens={
            "published": [
                {
                    "source": "dclm",
                    "paths": ["https://h.invalid/dclm/0.npy"],
                    "licence": "CC-BY-4.0",
                },
                {"source": "wiki", "paths": ["https://h.invalid/wiki/0.npy"], "dtype": "uint32"},
            ]
        },
        documents={},
        stage1_mix={"sources": {"dclm": {}, "wiki": {}}},
        stage2_mix={"sources": {"wiki": {"repetitions": 2}}},
    )
    return folder


def write(folder: Path, **sections: object) -> None:
    (folder / "corpus.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))


def sections(folder: Path) -> Any:
    return yaml.safe_load((folder / "corpus.yaml").read_text())


def test_without_text_the_assets_of_text_are_absent(recipe: Path) -> None:
    graph = build_graph(load_recipe("mine"))
    shutil.copytree(TINY, recipe.parent / "whole")
    whole = build_graph(load_recipe("whole"))
    assert whole.nodes.keys() - graph.nodes.keys() == {*TINY_S, "perplexity"}
    assert not graph.nodes.keys() - whole.nodes.keys()
    inputs = {name: graph.nodes[name].inputs for name in ("tokenizer", "tokens", "documents")}
    assert inputs == {"tokenizer": (), "tokens": ("tokenizer",), "documents": ("tokens",)}
    checks = [check.name for check in graph.nodes["tokens"].checks]
    assert checks == ["same_vocabulary", "nothing_taken_down"]


def test_the_plan_says_what_is_absent_and_why(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copy(recipe / "corpus.yaml", recipe.parent / "tokenizer.json")
    assert print_plan("mine", []) == 0
    said = printed(capsys)
    assert "All sources are published token files (tokens.published), so there is no text." in said
    assert (
        "raw, near_duplicates, held_out, tagged, deduplicated, decontaminated and filtered" in said
    )
    assert "no model has a perplexity" in said
    assert "tokenizer: missing, never built" in said
    assert "tokens: missing, because of its input tokenizer" in said


def test_other_sets_make_a_perplexity_without_text(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("OLMO_PALOMA", raising=False)
    shutil.copy(recipe / "corpus.yaml", recipe.parent / "tokenizer.json")
    evals = yaml.safe_load((recipe / "evals.yaml").read_text())
    held_out, paloma = ({"name": kind, "kind": kind} for kind in ("held_out", "paloma"))
    evals["perplexity"]["sets"] = [held_out, paloma]
    (recipe / "evals.yaml").write_text(yaml.safe_dump(evals))
    graph = build_graph(load_recipe("mine"))
    before = {name: found.value for name, found in graph.fingerprints.items()}
    node = graph.nodes["perplexity"]
    assert node.inputs == ("export", "stage1_mix", "tokens")
    assert [each["name"] for each in node.config["sets"]] == ["paloma"]
    assert [each.name for each in node.checks] == [
        "every_model_on_every_task",
        "learned_more_than_frequencies",
        "soup_is_as_good_as_its_best",
    ]
    assert "perplexity" in graph.nodes["leaderboard"].inputs
    sweep = sweep_node(graph, "checkpoint_perplexity")
    assert sweep.inputs[-1] == "tokenizer"
    # What is not here blocks perplexity alone: the rest keeps its fingerprint, and is made.
    assert print_plan("mine", []) == 1
    said = printed(capsys)
    assert "nothing is held out, so perplexity is that of paloma alone, and" in said
    assert "perplexity: blocked not here: perplexity: sets: paloma: folder '${OLMO_PALOMA}'" in said
    assert "stage1: missing, because of its input" in said
    folder = recipe.parent / "paloma"
    (folder / "web" / "val").mkdir(parents=True)
    (folder / "web" / "val" / "0.jsonl.gz").write_bytes(b"x")
    monkeypatch.setenv("OLMO_PALOMA", str(folder))
    assert print_plan("mine", []) == 0
    after = build_graph(load_recipe("mine")).fingerprints
    changed = {name for name, value in before.items() if after[name].value != value}
    assert changed == {"perplexity", "leaderboard", "model_card"}


def test_with_text_nothing_is_absent(recipe: Path) -> None:
    found = {**yaml.safe_load((TINY / "corpus.yaml").read_text()), **sections(recipe)}
    found["tokens"]["published"][1]["dtype"] = "uint16"
    write(recipe, **found)
    mine = load_recipe("mine")
    assert absences(mine) is None
    assert source_names(mine)[-3:] == ["package_text", "dclm", "wiki"]
    graph = build_graph(mine)
    assert graph.nodes["tokens"].inputs == ("filtered", "tokenizer")
    assert "perplexity" in graph.nodes
    found["tokens"]["published"][0]["source"] = "licences"
    found["stage1_mix"]["sources"] = {"licences": {}}
    write(recipe, **found)
    with pytest.raises(
        ConfigError,
        match=r"corpus\.yaml:\d+: tokens\.published: licences: the name of a source in raw",
    ):
        build_graph(load_recipe("mine"))


def test_a_variant_may_take_the_text_out(recipe: Path) -> None:
    shutil.copytree(TINY, recipe.parent / "whole")
    (recipe / "recipe.yaml").write_text("extends: whole\n")
    found = {**dict.fromkeys(TINY_S), **sections(recipe)}
    found["stage1_mix"]["sources"] |= dict.fromkeys(
        ("docstrings", "licences", "package_text", "python_code")
    )
    found["stage2_mix"]["sources"] |= {"docstrings": None}
    write(recipe, **found)
    for name in ("stage1.yaml", "stage2.yaml", "evals.yaml"):
        (recipe / name).unlink()
    assert "raw" not in build_graph(load_recipe("mine")).nodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tagged": {"taggers": {}}},
            r"corpus\.yaml:\d+: tagged: reads text, and the recipe has none",
        ),
        (
            {"tokenizer": {"vocab_size": 1024}},
            r"corpus\.yaml:1: tokenizer: file: missing; published",
        ),
        ({"stage1_mix": {"sources": {"dlcm": {}}}}, r"no source 'dlcm' in tokens\.published; did"),
        ({"tokens": {}}, r"raw: section missing"),
    ],
)
def test_what_does_not_go_together(recipe: Path, change: dict[str, object], message: str) -> None:
    write(recipe, **{**sections(recipe), **change})
    with pytest.raises(ConfigError, match=message):
        build_graph(load_recipe("mine"))


def test_two_dtypes_are_refused(recipe: Path) -> None:
    found = sections(recipe)
    found["tokens"]["published"][0]["dtype"] = "uint16"
    write(recipe, **found)
    with pytest.raises(ConfigError, match="dclm uint16, wiki uint32; expected one dtype"):
        build_graph(load_recipe("mine"))


def test_there_are_no_documents_to_inspect(recipe: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"mine: no documents to inspect\. All sources are published"
    ):
        inspect_corpus.inspect("mine", inspect_corpus.Wanted(), limit=1, as_json=False)


def test_a_changed_list_is_another_result(recipe: Path) -> None:
    shutil.copy(recipe / "corpus.yaml", recipe.parent / "tokenizer.json")
    before = build_graph(load_recipe("mine")).fingerprints
    found = sections(recipe)
    found["tokens"]["published"][0]["paths"] = ["https://h.invalid/dclm/1.npy"]
    write(recipe, **found)
    after = build_graph(load_recipe("mine")).fingerprints
    changed = {name for name in before if before[name].value != after[name].value}
    assert changed == {*before} - {"tokenizer"}


def test_licences_go_to_the_model_card_and_nowhere_else(recipe: Path) -> None:
    shutil.copy(recipe / "corpus.yaml", recipe.parent / "tokenizer.json")
    before = build_graph(load_recipe("mine"))
    assert before.nodes["model_card"].config["licences"] == {"dclm": "CC-BY-4.0"}
    found = sections(recipe)
    found["tokens"]["published"][1]["licence"] = "CC-BY-SA-4.0"
    write(recipe, **found)
    after = build_graph(load_recipe("mine"))
    licences = {"dclm": "CC-BY-4.0", "wiki": "CC-BY-SA-4.0"}
    assert after.nodes["model_card"].config["licences"] == licences
    changed = {
        name
        for name in before.nodes
        if before.fingerprints[name].value != after.fingerprints[name].value
    }
    assert changed == {"model_card"}


def test_the_licences_of_texts_go_there_too(recipe: Path) -> None:
    found = yaml.safe_load((TINY / "corpus.yaml").read_text())
    found["raw"]["sources"][1]["licence"] = "BSD-3-Clause"
    write(recipe, **found)
    graph = build_graph(load_recipe("mine"))
    assert graph.nodes["model_card"].config["licences"] == {"docstrings": "BSD-3-Clause"}
    assert "licence" not in str(graph.nodes["raw"].config["sources"][1])


def test_the_graph_alone_sets_the_card_s_licences(recipe: Path) -> None:
    text = (recipe / "evals.yaml").read_text()
    (recipe / "evals.yaml").write_text(f"{text}  licences: {{dclm: mine}}\n")
    with pytest.raises(ConfigError, match=r"evals\.yaml:\d+: model_card: licences: the graph sets"):
        build_graph(load_recipe("mine"))


# The folder of each source, as the official training files of OLMo 2 7B list it; long ones are cut.
STAGE1 = {
    "dclm": "dclm/text_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train/allenai/dolma2-tokenizer",
    "starcoder": "starcoder/v1-decon-100_to_20k-2star-top_token_030/allenai/dolma2-tokenizer",
    "pes2o": "pes2o/allenai/dolma2-tokenizer",
    "arxiv": "proof-pile-2/v0_decontaminated/arxiv/train/allenai/dolma2-tokenizer",
    "algebraic_stack": "proof-pile-2/v0_decontaminated/algebraic-stack/train/allenai",
    "open_web_math": "proof-pile-2/v0_decontaminated/open-web-math/train/allenai/dolma2-tokenizer",
    "wiki": "olmo-mix/danyh-compiled-v1_7/documents/wiki/allenai/dolma2-tokenizer",
}
STAGE2 = {
    "dclm_stage2": "dclm/v0_rep32_ft7percentile_fw2/documents/allenai/dolma2-tokenizer/0013",
    "tulu_flan": "tulu_flan/v1-FULLDECON-HARD-TRAIN-60M-shots_all-upweight_1/allenai",
    "tinygsm_mind_2students": "tinyGSM/mind-2students/dolma2-tokenizer",
    "mathcoder2_synthmath": "mathcoder2-synthmath/mathcoder2-synthmath/filtered-math",
    "tinygsm_mind": "tinyGSM/mind/dolma2-tokenizer",
    "stackexchange": "stackexchange/v1_dedupe/allenai/dolma2-tokenizer",
    "mathcoder2_ajibawa": "mathcoder2-synthmath/ajibawa-2023/dolma2-tokenizer",
    "personahub_math": "personahub_math_v5_regen_149960/dolma2-tokenizer",
    "metamath_owm": "owm-filtered-math/metamath",
    "tulu_personas_math_grade": "tulu-3-sft-personas-math-grade/dolma2-tokenizer",
    "personahub_algebra": "tulu_v3.9_personahub_math_interm_algebra_20k/dolma2-tokenizer",
    "gsm_mind": "gsm_MIND/clean_stop/dolma2-tokenizer",
    "basic_math_mj": "basic_math_mj/dolma2-tokenizer",
    "multiadd": "basic_math_mj/multiadd/dolma2-tokenizer",
    "gsm8k_socratic": "gsm8k/v0_socratic_train/allenai/dolma2-tokenizer",
    "gsm8k_main": "gsm8k/v0_main_train/allenai/dolma2-tokenizer",
    "gsm8k_synth": "gsm8k-synth/resample_v1_6x/dolma2-tokenizer",
}


@pytest.mark.parametrize("size", ["1b", "7b", "13b"])
def test_olmo2_s_published_files_go_to_their_sources(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each path of the lists to one source; the mixes are those of the recipe of documents."""
    monkeypatch.setenv("OLMO_SOURCES", str(tmp_path))
    recipe, base = load_recipe(f"olmo2_{size}_tokens"), load_recipe(f"olmo2_{size}")
    stage2 = {
        "1b": ["1B-stage2-seed42"],
        "7b": ["7B-stage2-seed42"],
        "13b": [
            "7B-stage2-seed42",
            "13B-stage2-seed1110-100B",
            "13B-stage2-seed2662-300B",
        ],
    }
    for name in (f"{size.upper()}-stage1", *stage2[size]):
        listed = STAGE1 if name.endswith("stage1") else STAGE2
        wiki_and_pes2o = [] if listed is STAGE1 else [STAGE1["wiki"], STAGE1["pes2o"]]
        paths = [
            f"http://olmo-data.org/preprocessed/{path}/part-0-00000.npy"
            for path in (*listed.values(), *wiki_and_pes2o)
        ]
        content = {"data": {"memmap_dtype": "uint32", "paths": paths}}
        (tmp_path / f"OLMo2-{name}.yaml").write_text(yaml.safe_dump(content))
    sources = recipe.section("corpus", "tokens", TokensConfig).published
    assert {source.source: [*list_files(source).times] for source in sources} == {
        name: [f"http://olmo-data.org/preprocessed/{path}/part-0-00000.npy"]
        for name, path in {**STAGE1, **STAGE2}.items()
    }
    assert published_dtype(sources, "uint16") == "uint32"
    for mix in recipe.mixes:
        assert recipe.corpus[mix] == base.corpus[mix]
    nodes = build_graph(recipe).nodes
    assert "raw" not in nodes
    assert "perplexity" not in nodes
    assert nodes["stage1"].config == build_graph(base).nodes["stage1"].config


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in RECIPES.glob("olmo*/corpus.yaml"))
)
def test_every_source_of_olmo_says_its_licence(name: str) -> None:
    """So that the model card does; token files have that of the documents."""
    recipe = load_recipe(name)
    found = licences(recipe)
    assert list(found) == source_names(recipe)
    if name.startswith("olmo2"):
        assert found == licences(load_recipe("olmo2_7b"))
        assert (found["dclm"], found["wiki"], found["gsm8k_main"]) == ("CC-BY-4.0", "ODC-BY", "MIT")
    else:
        assert set(found.values()) == {"ODC-BY"}
