"""Documents whose ids, texts and files' names a shell could run, through the whole real corpus."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from assets.reporting.texts import visible_line
from tests.hostile import hostile
from tests.integration.conftest import RECIPES, World

WORDS = "the record of a harbour where seventy ships lay waiting for wind and none of them sailed"


@pytest.mark.slow
def test_ids_of_documents_come_through_to_the_letter_and_are_never_obeyed(tmp_path: Path) -> None:
    cage = tmp_path / "cage"
    cage.mkdir()
    ids = [value for value in hostile(cage / "canary") if value.strip()]
    recipe = shutil.copytree(RECIPES / "tiny", tmp_path / "recipes" / "tiny")
    texts = tmp_path / "texts"
    texts.mkdir()
    with (texts / "$(touch cage) 'x' ;.jsonl").open("w") as lines:
        for number, value in enumerate(ids):
            text = f"{value[:100]} {number} " + " ".join(
                f"{word}{number}" for word in WORDS.split()
            )
            lines.write(json.dumps({"id": value, "text": text * 3}) + "\n")
    corpus = yaml.safe_load((recipe / "corpus.yaml").read_text())
    corpus["raw"]["sources"].append(
        {"name": "hostile", "reader": "files", "root": str(texts), "include": ["*.jsonl"]}
    )
    corpus["tagged"]["taggers"]["hostile"] = ["gopher_v2"]
    corpus["filtered"]["rules"]["hostile"] = []
    corpus["filtered"]["min_kept_share"]["hostile"] = 0.9
    (recipe / "corpus.yaml").write_text(yaml.safe_dump(corpus, sort_keys=False))
    world = World(root=tmp_path / "root")

    def said(*arguments: str) -> str:
        """What a command prints, which a terminal can only show."""
        done = world.olmo(*arguments, OLMO_RECIPES=str(recipe.parent))
        assert done.returncode == 0, done.stdout + done.stderr
        printed = done.stdout + done.stderr
        assert all(c.isprintable() or c in "\n\t" for c in printed), ascii(printed)
        return printed

    said("run", "tiny", "--select", "documents,stage1")
    assert list(cage.iterdir()) == []
    found = list((world.root / "tiny" / "documents").glob("*/ids/*.parquet"))
    indexed = {id for path in found for id in pq.read_table(path, columns=["id"])["id"].to_pylist()}
    came_through = {entry for entry in indexed if entry.startswith("hostile/")}
    assert came_through <= {f"hostile/{value}" for value in ids}
    assert len(came_through) > 50  # the perplexity set has the rest
    looks = said("corpus", "inspect", "tiny", "--source", "hostile", "--limit", "1000")
    assert "hostile/\\u202eomed" in looks
    said("corpus", "inspect", "tiny", "--source", "hostile", "--limit", "1000", "--json")
    said("corpus", "inspect", "tiny", "--source", "hostile", "--id", "hostile/\x1b[2J")
    for id in sorted(came_through):
        # A process cannot be given a NUL.
        if "\0" not in id and not id.isascii():
            assert visible_line(id)[:60] in said("trace", "doc", "tiny", id)
    for step in ("1", "2", "3"):
        said("trace", "step", "tiny", step, "--text")
        said("trace", "step", "tiny", step, "--json")
    said("show", "tiny", "raw")
    said("show", "tiny", "documents")
