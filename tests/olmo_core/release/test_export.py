"""Every export loads offline, by folder and by revision, and computes what our model computes."""

import contextlib
import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from olmo_core import files
from olmo_core.checkpoint.tensor_file import Stored
from olmo_core.checkpoint.weight_files import INDEX, open_weights
from olmo_core.checkpoint.weights import load_model
from olmo_core.config.load import build
from olmo_core.config.release import ExportConfig
from olmo_core.errors import ConfigError, InputError
from olmo_core.evals.rows import exported_models
from olmo_core.files import sha256_file
from olmo_core.release import export, hub, parity
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job

MODELS = ("stage1", "stage2_ingredient1", "stage2_ingredient2", "soup")


@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_and_continues(family: Any, name: str) -> None:
    folder = family.runs["export"] / "exports" / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ours = load_model(family.runs[name] / "model")
    ids = torch.randint(0, 400, (2, 64))
    with torch.no_grad():
        expected, found = ours(ids), model(input_ids=ids).logits
    assert ((expected - found).abs().max() / expected.abs().max()).item() <= 1e-5
    assert torch.equal(expected.argmax(-1), found.argmax(-1))
    text = pipeline("text-generation", model=str(folder))("A language", max_new_tokens=5)
    assert text[0]["generated_text"].startswith("A language")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    assert model.generation_config.eos_token_id == 0


def test_report_and_revisions(family: Any) -> None:
    folder = family.runs["export"]
    report = RunFolder(folder).read_result()["report"]
    models = report["data"]["models"]
    assert [model["model"] for model in models] == list(MODELS)
    assert [model["revision"] for model in models] == [
        "stage1-step100-tokens7M",
        "stage2-ingredient1-step10-tokens640K",
        "stage2-ingredient2-step10-tokens640K",
        "main",
    ]
    assert (folder / "revisions.txt").read_text().split() == [m["revision"] for m in models]
    for model in models:
        assert sha256_file(folder / model["path"] / "model.safetensors") == model["sha256"]
    assert report["numbers"]["architecture"] == "Olmo2ForCausalLM"
    assert set(report["samples"]) == set(MODELS)
    outputs = [path for path in RunFolder(folder).outputs() if path.suffix in (".json", ".txt")]
    assert not [p for p in outputs if str(family.root) in (folder / p).read_text()]


REVISIONS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from huggingface_hub import snapshot_download
for revision in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained("someone/tiny", revision=revision)
    print(revision, model.model.norm.weight.double().sum().item())
pipeline("text-generation", model="someone/tiny", revision=sys.argv[1])("A", max_new_tokens=2)
snapshot_download("someone/tiny", revision=sys.argv[1])
try:
    AutoModelForCausalLM.from_pretrained("someone/tiny", revision="step7")
except OSError:
    print("absent")
"""


def test_revisions_work_without_a_network(family: Any) -> None:
    folder = family.runs["export"]
    revisions = (folder / "revisions.txt").read_text().split()
    process = subprocess.run(
        [sys.executable, "-c", REVISIONS, *revisions],
        env={**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = process.stdout.strip().splitlines()
    assert last == "absent"
    for line, name in zip(lines, MODELS, strict=True):
        weights = load_file(family.runs[name] / "model" / "model.safetensors")
        assert float(line.split()[1]) == weights["norm.weight"].double().sum().item()


def export_again(family: Any, stage1: Path, **section: Any) -> Path:
    folder = family.new("export")
    config = ExportConfig(repository="someone/tiny", parity_sequence_length=32, **section)
    inputs = {"stage1": stage1, "tokenizer": family.runs["tokenizer"]}
    with Job.open(folder) as job:
        job.finish(export.make(config, inputs, job))
    return folder


def test_bytes_depend_on_the_models_alone(family: Any) -> None:
    again = export_again(family, family.runs["stage1"])
    before = RunFolder(family.runs["export"]).read_result()["files"]
    after = RunFolder(again).read_result()["files"]
    shared = [name for name in after if name.startswith("exports/stage1/")]
    assert shared
    assert all(after[name] == before[name] for name in shared)


def test_wrong_logits_release_nothing(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = parity.load_pretrained

    def altered(folder: Path, device: torch.device, *, streamed: bool) -> Any:
        model = real(folder, device, streamed=streamed)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[0, 0] += 0.05
        return model

    monkeypatch.setattr(parity, "load_pretrained", altered)
    with pytest.raises(InputError, match="stage1: transformers' logits differ from ours by"):
        export_again(family, family.runs["stage1"])


def test_weights_that_do_not_fit_are_refused(family: Any, tmp_path: Path) -> None:
    source = family.runs["stage1"]
    broken = tmp_path / "stage1"
    (broken / "model").mkdir(parents=True)
    for name in ("result.json", "model/config.yaml"):
        (broken / name).write_bytes((source / name).read_bytes())
    tensors = load_file(source / "model" / "model.safetensors")
    del tensors["blocks.0.feed_forward.w2.weight"]
    save_file(tensors, broken / "model" / "model.safetensors")
    with pytest.raises(
        InputError, match=r"missing parameters: blocks\.0\.feed_forward\.w2\.weight"
    ):
        export_again(family, broken)


def test_parity_needs_every_top_choice() -> None:
    good = parity.Parity(tokens=10, max_relative_error=1e-7, top1_agreement=1.0)
    parity.require(good, "soup", 1e-5)
    bad = parity.Parity(tokens=10, max_relative_error=1e-7, top1_agreement=0.9)
    with pytest.raises(InputError, match=r"agrees at 0\.9000 of 10 positions"):
        parity.require(bad, "soup", 1e-5)


def test_parity_is_measured_on_real_text(family: Any) -> None:
    tokenizer = family.runs["tokenizer"] / "tokenizer.json"
    batch = parity.text_batch(tokenizer, 3, 20)
    assert batch.shape == (3, 20)
    text = Tokenizer.from_file(str(tokenizer)).decode(batch[0].tolist())
    assert text.startswith('The "assert" statement')


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "/x", "a/b--c"])
def test_repository_is_organisation_and_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is not ORGANISATION/NAME"):
        build(ExportConfig, {"repository": name}, where="export")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_are_compared_recorded_and_used_as_one_file_is(family: Any, dtype: str) -> None:
    folder = export_again(
        family,
        family.runs["stage1"],
        dtype=dtype,
        max_shard_bytes=30_000,
        sample_prompts=("A language",),
        sample_tokens=3,
    )
    report = RunFolder(folder).read_result()["report"]
    [row] = report["tables"]["models"]
    assert row["files"] == len(list((folder / "exports" / "stage1").glob("*.safetensors"))) > 3
    assert row["max_relative_error"] <= 1e-5
    assert report["samples"]["stage1"][0].startswith("A language")
    before = RunFolder(family.runs["export"]).read_result()["report"]["numbers"]
    assert report["numbers"]["parameters"] == before["parameters"]
    [model] = exported_models(folder)
    assert model.identity()["model"] == sha256_file(model.path / INDEX)
    script = REVISIONS.replace("model.model.norm.weight.double().sum().item()", "1")
    process = subprocess.run(
        [sys.executable, "-c", script, "main"],
        env={**os.environ, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == ["main", "1", "absent"]
    shard = sorted(model.path.glob("model-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="model-00002-of-"):
        model.identity()


def test_shards_are_compared_in_one_pass_over_the_weights(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = parity.open_safetensors
    reads: dict[str, int] = {}

    def counted(path: Path) -> dict[str, Stored]:
        def read(name: str, stored: Stored) -> torch.Tensor:
            reads[name] = reads.get(name, 0) + 1
            return stored.read()

        return {
            name: Stored(each.shape, partial(read, name, each)) for name, each in real(path).items()
        }

    monkeypatch.setattr(parity, "open_safetensors", counted)
    export_again(family, family.runs["stage1"], max_shard_bytes=30_000, parity_sequences=3)
    assert reads.pop("lm_head.weight") == 3  # per sequence, so that no logits of others are held
    assert len(reads) > 10
    assert set(reads.values()) == {1}


def test_the_tokenizer_knows_the_model_s_context(family: Any) -> None:
    tokenizer = family.runs["export"] / "exports" / "soup"
    assert AutoTokenizer.from_pretrained(tokenizer).model_max_length == 64


def test_nothing_half_written_is_taken_for_an_export(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at each of the files in turn; then there is room."""
    model, tokenizer = family.runs["stage1"] / "model", family.runs["tokenizer"]
    real = files.fsync
    left = 0

    def full_disk(path: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path)

    monkeypatch.setattr(files, "fsync", full_disk)
    target = tmp_path / "export"
    for room in range(1000):
        left = room
        with contextlib.suppress(OSError):
            hub.write_export(model, tokenizer, target, max_shard_bytes=30_000)
            break
        assert not target.exists()
    assert room > 10  # that many times the disk was full
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert len(open_weights(tmp_path / "export")) > 10


def test_revisions_of_equal_weights_are_named(family: Any) -> None:
    folder = family.new("export")
    inputs = {"stage1": family.runs["stage1"], "soup": family.runs["stage1"]}
    config = ExportConfig(repository="someone/tiny", parity_sequence_length=32)
    with Job.open(folder) as job:
        job.finish(export.make(config, {**inputs, "tokenizer": family.runs["tokenizer"]}, job))
    rows = RunFolder(folder).read_result()["report"]["tables"]["models"]
    assert [row["same_weights_as"] for row in rows] == ["", "stage1-step100-tokens7M"]
