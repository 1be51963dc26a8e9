"""Documents are taken down: a rebuild has none of them, nor of their near copies, in any batch."""

import hashlib
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer

from assets.lineage.runs import Lineage
from benchmarks.trace import Oracle
from olmo_core.corpus.rows import read_rows
from tests.integration.conftest import RECIPES, World

TRAINED = ("stage1", "stage2_ingredient1", "stage2_ingredient2")
# Words that no other document has, by which the texts that must leave are found in what was read.
FIRST, LATE, PAGE, STAYS = "qvornik", "wuzzelo", "zyxbark", "harbourmaster"
URL = "https://example.org/page?a=1&b=2"


def text_of(marker: str, seed: int, changed: int = 0) -> str:
    """Three hundred words, every fifth the marker; some of them other ones."""
    rng = random.Random(seed)
    words = [marker if n % 5 == 0 else f"w{rng.randrange(900)}" for n in range(150)]
    for n in range(changed):
        words[7 + 40 * n] = f"other{n}"
    return "\n".join(" ".join(words[at : at + 10]) for at in range(0, 150, 10))


def sources() -> dict[str, list[dict[str, Any]]]:
    """Documents by source; those that must leave among many that stay."""
    rows = {
        name: [{"id": f"{n}", "text": text_of(STAYS, 1000 * k + n)} for n in range(55)]
        for k, name in enumerate(("books", "pages", "late"), start=1)
    }
    rows["books"] += [
        {"id": "first", "text": text_of(FIRST, 1)},
        {"id": "first: again", "text": text_of(FIRST, 1)},  # dedup drops it
    ]
    rows["pages"] += [
        {"id": "mirror", "text": text_of(FIRST, 1, changed=2)},  # and this one
        {"id": "page", "text": text_of(PAGE, 2), "url": URL},
        {"id": "old $(page)\n#", "text": text_of(PAGE, 3), "url": URL},
    ]
    rows["late"].append({"id": "only", "text": text_of(LATE, 4)})
    return rows


def write_recipe(folder: Path, texts: Path) -> Path:
    recipe = shutil.copytree(RECIPES / "tiny", folder / "planted")
    for name, rows in sources().items():
        (texts / name).mkdir(parents=True)
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (texts / name / "all.jsonl").write_text(lines)
    copies = [
        {"name": "same_text", "attribute": "duplicates__text", "above": 0},
        {"name": "near_copy", "attribute": "duplicates__near", "above": 0},
    ]
    corpus = {
        "raw": {
            "sources": [
                {
                    "name": name,
                    "reader": "files",
                    "root": str(texts / name),
                    "metadata_keys": ["url"],
                }
                for name in sources()
            ]
        },
        "near_duplicates": {},
        "held_out": {"share": 0.02, "min_documents": 2, "max_domain_bytes": 24000},
        "tagged": {"taggers": {name: ["gopher_v2"] for name in sources()}},
        "deduplicated": {"min_paragraph_bytes": 20},
        "filtered": {
            "rules": {name: copies for name in sources()},
            "min_kept_share": {name: 0.5 for name in sources()},
            "may_drop_nothing": True,
        },
        "tokenizer": {"vocab_size": 1024},
        "tokens": {},
        "documents": {},
        "stage1_mix": {"sources": {"books": {}, "pages": {}}},
        "stage2_mix": {"sources": {"late": {}}},
    }
    text = yaml.safe_dump(corpus, sort_keys=False)
    (recipe / "corpus.yaml").write_text(f"# A recipe of a person, with comments.\n{text}")
    return recipe


def read_by(recipe: str) -> Iterator[tuple[str, int, str]]:
    """Yield each run and step with the text of each instance, by training's own loader."""
    lineage = Lineage(recipe)
    for name in TRAINED:
        run = lineage.run(name)
        oracle = Oracle(lineage, run)
        tokenizer = Tokenizer.from_file(
            str(lineage.input(run.folder, "tokenizer") / "tokenizer.json")
        )
        for step in range(run.first_step, run.last_step + 1):
            for ids in oracle.batch(step).input_ids:
                yield name, step, tokenizer.decode([int(each) for each in ids])


def seen(recipe: str) -> set[tuple[str, str]]:
    """Return which run has read which of the marked texts."""
    markers = (FIRST, LATE, PAGE, STAYS)
    return {
        (run, marker) for run, _, text in read_by(recipe) for marker in markers if marker in text
    }


def steps_with(recipe: str, *markers: str) -> dict[str, set[int]]:
    """Return the steps of each run that have read any of the marked texts."""
    found: dict[str, set[int]] = {name: set() for name in TRAINED}
    for run, step, text in read_by(recipe):
        if any(marker in text for marker in markers):
            found[run].add(step)
    return found


def scored(world: World) -> list[str]:
    """Return the documents that perplexity is measured on, by the newest version."""
    folders = (world.root / "planted" / "held_out").iterdir()
    newest = max(folders, key=lambda folder: (folder / "result.json").stat().st_mtime_ns)
    return [row["id"] for row in read_rows(newest / "held_out.jsonl.gz") if row["role"] == "scored"]


@pytest.mark.slow
def test_no_batch_of_the_rebuild_holds_what_was_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipes", tmp_path / "texts")
    world = World(root=tmp_path / "root", recipe="planted")
    own: Mapping[str, str] = {"OLMO_RECIPES": str(recipe.parent)}
    monkeypatch.setenv("OLMO_ROOT", str(world.root))
    monkeypatch.setenv("OLMO_RECIPES", str(recipe.parent))

    def olmo(*arguments: str, code: int = 0) -> str:
        done = world.olmo(*arguments, **own)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    build = ("--select", "documents,stage2_ingredient1,stage2_ingredient2")
    olmo("run", "planted", *build)
    before = seen("planted")
    steps = steps_with("planted", FIRST, LATE, PAGE)
    trained = {("stage1", FIRST), ("stage1", PAGE), ("stage2_ingredient1", LATE)}
    assert trained | {(name, STAYS) for name in TRAINED} <= before
    docs = tmp_path / "request.txt"
    sha1 = hashlib.sha1(text_of(LATE, 4).encode()).hexdigest()
    held_out = scored(world)
    docs.write_text(f"# request 17\nbooks/first\n{URL}\n{sha1.upper()}\n{held_out[0]}\n")
    entry = json.loads(olmo("takedown", "planted", "--docs", str(docs), "--json"))
    reasons = {each["id"]: each["why"] for each in entry["documents"]}
    assert reasons == {
        "books/first": "asked for",
        "books/first: again": "same text",
        "pages/mirror": "near copy",
        "pages/page": "asked for",
        "pages/old $(page)\n#": "asked for",
        "late/only": "asked for",
        held_out[0]: "asked for",
    }
    [measured] = [row for row in entry["affected"] if "perplexity is measured" in row["what"]]
    assert (measured["asset"], measured["documents"]) == ("held_out", 1)
    assert not (recipe / "takedown").exists()
    saw = {row["asset"] for row in entry["affected"] if row["holds"] == "saw"}
    assert {*TRAINED, "tokenizer"} <= saw
    for row in entry["affected"]:
        if row["group"] == "training":
            # A window may hold but a few words of a document, none of them the marker.
            assert steps[row["asset"]]
            assert row["figures"]["first_step"] <= min(steps[row["asset"]])
            assert row["figures"]["last_step"] >= max(steps[row["asset"]])
            assert 0 <= row["figures"]["steps"] - len(steps[row["asset"]]) <= 2
    assert entry["rebuild"]["total"]["tokens"]["value"] == 40 * 1024 + 2 * 10 * 1024
    olmo("takedown", "planted", "--docs", str(docs), "--write")
    assert "not made" in olmo("takedown", "planted", "--verify", code=1)
    olmo("run", "planted", *build)
    assert seen("planted") == {(name, STAYS) for name in TRAINED}
    assert held_out[0] not in scored(world)
    proof = json.loads(olmo("takedown", "planted", "--docs", str(docs), "--verify", "--json"))
    assert proof["passed"]
    assert [(run["asset"], run["steps"], run["instances"]) for run in proof["runs"]] == [
        ("stage1", 40, 320),
        ("stage2_ingredient1", 10, 80),
        ("stage2_ingredient2", 10, 80),
    ]
    shown = olmo("show", "planted", "stage1")
    assert "no_batch_holds_taken_down" in shown
    assert "looked at 40 steps, 320 instances" in shown
    refuses_the_corpus_of_before(olmo, recipe)


def refuses_the_corpus_of_before(olmo: Any, recipe: Path) -> None:
    """A recipe without the lists would have the old corpus, which lies there: it is refused."""
    other = shutil.copytree(recipe, recipe.parent / "other")
    shutil.rmtree(other / "takedown")
    text = (other / "corpus.yaml").read_text()
    kept = [line for line in text.splitlines() if "exclude_documents" not in line]
    assert len(kept) == len(text.splitlines()) - 3
    (other / "corpus.yaml").write_text("\n".join(kept))
    said = olmo("plan", "other", code=1)
    assert "nothing_taken_down" in said
    assert "by planted" in " ".join(said.split())
    said = olmo("run", "other", "--select", "stage1", code=1)
    assert "taken down" in " ".join(said.split())
    olmo("run", "planted", "--select", "stage1")  # which has taken them down
