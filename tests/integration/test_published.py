"""An official list of token files, served, trained on through the whole graph without text."""

import argparse
import csv
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from olmo_core.config.load import load
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest
from olmo_core.lineage.batch import documents_of_step
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.run import open_run
from olmo_core.lineage.visits import steps_of_document
from tests.integration.conftest import RECIPES, World
from tests.olmo_core.file_server import FileServer, serving

VOCABULARY, EOS = 1024, 0
FILES = ("dclm/part-00-00000", "dclm/part-01-00000", "wiki/part-0-00000")


@dataclass(frozen=True, kw_only=True)
class Served:
    """A finished recipe `published` over files that a server had."""

    world: World
    server: FileServer

    def ids(self, name: str) -> np.ndarray:
        return np.fromfile(self.server.folder / f"{name}.npy", "<u2")

    def ends(self, name: str) -> list[int]:
        return (np.flatnonzero(self.ids(name) == EOS) + 1).tolist()


def write_file(path: Path, seed: int) -> None:
    """Write a token file in OLMo's layout: few ids often, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 400, 90)
    ids = np.minimum(2 + rng.geometric(0.02, lengths.sum()), VOCABULARY - 1).astype("<u2")
    ends = np.cumsum(lengths)
    ids[ends - 1] = EOS
    path.parent.mkdir(parents=True, exist_ok=True)
    ids.tofile(path.with_suffix(".npy"))
    if "wiki" in str(path):
        return  # published without rows
    with gzip.open(path.with_suffix(".csv.gz"), "wt", newline="") as out:
        csv.writer(out).writerows(
            (end - length, end, f"{path.parent.name}-{seed}-{n}", "s3://ai2/x.json.gz", n + 1)
            for n, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True))
        )


def write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|padding|>"],  # EOS and PAD
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(argparse.__file__).read_text()], trainer)
    tokenizer.save(str(path))


def write_recipe(folder: Path, official: Path, tokenizer: Path) -> None:
    shutil.copytree(RECIPES / "tiny", folder)
    patterns = {name: [f"*/{name}/*"] for name in ("dclm", "wiki")}
    licences = {"dclm": "CC-BY-4.0", "wiki": "CC-BY-SA-4.0"}
    sections = {
        "tokenizer": {"file": str(tokenizer), "vocab_size": VOCABULARY},
        "tokens": {
            "published": [
                {
                    "source": name,
                    "official": str(official),
                    "matching": matching,
                    "licence": licences[name],
                }
                for name, matching in patterns.items()
            ]
        },
        "documents": {},
        "stage1_mix": {"sources": {"dclm": {}, "wiki": {"repetitions": 0.5}}},
        "stage2_mix": {"sources": {"wiki": {"repetitions": 2}}},
    }
    (folder / "corpus.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run the recipe; the list names the first file twice, as official lists do some."""
    folder = tmp_path_factory.mktemp("published")
    for seed, name in enumerate(FILES):
        write_file(folder / "served" / name, seed)
    write_tokenizer(folder / "tokenizer.json")
    with serving(folder / "served") as server:
        stage1 = load(RECIPES / "tiny" / "stage1.yaml")
        paths = [f"{server.url}/{name}.npy" for name in (*FILES, FILES[0])]
        official = {**stage1, "data": {**stage1["data"], "memmap_dtype": "uint16", "paths": paths}}
        (folder / "official.yaml").write_text(json.dumps(official))
        write_recipe(
            folder / "recipes" / "published", folder / "official.yaml", folder / "tokenizer.json"
        )
        world = World(root=folder / "root")
        recipes = {"OLMO_RECIPES": str(folder / "recipes")}
        server.faults = ["", "500", "", "short"]
        done = world.olmo("run", "published", **recipes)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Served(world=world, server=server)


def path_of(served: Served, asset: str) -> Path:
    (found,) = (served.world.root / "published" / asset).iterdir()
    return found


@pytest.mark.slow
def test_the_whole_graph_is_made(served: Served) -> None:
    made = {path.name for path in (served.world.root / "published").iterdir()}
    assert {"tokenizer", "tokens", "documents", "stage1", "soup", "export", "leaderboard"} <= made
    assert not made & {"raw", "held_out", "filtered", "perplexity"}
    card = (path_of(served, "model_card") / "README.md").read_text()
    assert "CC-BY-SA-4.0" in card
    recipes = {"OLMO_RECIPES": str(served.world.root.parent / "recipes")}
    for command in ("plan", "show"):
        done = served.world.olmo(command, "published", **recipes)
        assert done.returncode == 0, done.stderr
        assert ("no model has a perplexity" in " ".join(done.stdout.split())) == (command == "plan")
    again = served.world.olmo("run", "published", **recipes)
    assert "no run was started" in again.stdout
    definitions = subprocess.run(
        [str(Path(sys.executable).with_name("dagster")), "definitions", "validate"],
        env={**served.world.environment, **recipes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert definitions.returncode == 0, definitions.stderr


@pytest.mark.slow
def test_batches_and_look_ups_are_those_of_the_served_files(served: Served) -> None:
    """Every window of stage 1 against numpy over the served files, every document against EOS."""
    tokens, mix = path_of(served, "tokens"), path_of(served, "stage1_mix")
    origin = {
        file["file"]: file["from"].removeprefix(f"{served.server.url}/").removesuffix(".npy")
        for file in json.loads((tokens / "published.json").read_text())["files"]
    }
    assert sorted(origin.values()) == sorted(FILES)
    manifest: Any = json.loads((mix / "manifest.json").read_text())
    windows: list[np.ndarray] = []
    places: list[list[tuple[str, int]]] = []  # of each token of a window: served file, place in it
    listed: list[str] = []
    for stream in manifest["streams"]:
        joined: list[int] = []
        at: list[tuple[str, int]] = []
        for part in stream["ranges"]:
            name = origin[part["path"]["path"]]
            joined += served.ids(name)[part["start"] : part["stop"]].tolist()
            at += [(name, place) for place in range(part["start"], part["stop"])]
            listed.append(name)
        for start in range(0, len(joined) - 127, 128):
            windows.append(np.array(joined[start : start + 128]))
            places.append(at[start : start + 128])
    assert listed[:3] == [FILES[0], FILES[0], FILES[1]]  # once through, and what is listed twice
    loader = Loader(
        manifest=Manifest.read(mix / "manifest.json", root=tokens),
        sequence_length=128,
        global_batch_size=8,
        seed=6198,
        order="feistel",
        vocab_size=VOCABULARY,
    )
    index = BatchedDocumentIndex(path_of(served, "documents"))
    run = open_run(path_of(served, "stage1"), manifest=mix / "manifest.json", tokens=tokens)
    numbers = {window.tobytes(): number for number, window in enumerate(windows)}
    seen: list[int] = []
    steps: dict[str, list[int]] = {}
    for step in range(1, run.last_step + 1):
        batch, traced = loader.batch(step - 1), documents_of_step(run, index, step)
        for ids, instance in zip(batch.input_ids, traced.instances, strict=True):
            number = numbers[np.asarray(ids, dtype=np.int64).tobytes()]
            seen.append(number)
            expected = dict.fromkeys(
                (name, next(end for end in served.ends(name) if end > place))
                for name, place in places[number]
            )
            spans = [piece.document for piece in instance.pieces]
            assert {(origin[span.file], span.end) for span in spans} == expected.keys()
            for span in spans:
                steps.setdefault(span.id, []).append(step)
    assert len(set(seen)) >= len(seen) - len(windows) // 3  # the first file's windows come twice
    (span,) = index.of_id("dclm-1-7")
    assert (origin[span.file], span.end) == (FILES[1], served.ends(FILES[1])[7])
    for doc_id, expected_steps in steps.items():
        (span,) = index.of_id(doc_id)
        assert [visit.step for visit in steps_of_document(run, span).visits] == expected_steps


@pytest.mark.slow
def test_a_recipe_of_published_files_is_refused_once_a_document_is_taken_down(
    served: Served, tmp_path: Path
) -> None:
    """The files cannot leave it out; who knows of the takedown trains on them no more."""
    folder = served.world.root.parent / "recipes"
    recipes = {"OLMO_RECIPES": str(folder)}

    def olmo(*arguments: str, code: int = 0) -> str:
        done = served.world.olmo(*arguments, **recipes)
        assert done.returncode == code, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    docs = tmp_path / "docs.txt"
    docs.write_text("dclm-0-11\n")
    entry = json.loads(olmo("takedown", "published", "--docs", str(docs), "--json"))
    assert [each["id"] for each in entry["published"]] == ["dclm-0-11"]
    saw = {row["asset"] for row in entry["affected"] if row["holds"] == "saw"}
    assert {"stage1", "soup", "export"} <= saw
    assert olmo("plan", "published")
    try:
        said = olmo("takedown", "published", "--docs", str(docs), "--write")
        assert "1 documents stand in published token files" in said
        said = olmo("plan", "published", code=1)
        assert "nothing_taken_down" in said
        assert "'dclm-0-11' (by published)" in said
        assert "tokens.published" in said
        said = olmo("run", "published", "--select", "stage1", "--force", code=1)
        assert "nothing_taken_down" in said
        said = olmo("takedown", "published", "--verify", code=1)
        assert "dclm-0-11" in said
    finally:
        shutil.rmtree(folder / "published" / "takedown")
    assert olmo("plan", "published")
