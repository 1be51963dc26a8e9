"""From chats to a fine-tuned model by the two commands of docs/training.md."""

import json
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from olmo_core.checkpoint.weights import load_model
from olmo_core.corpus.tokens.chat import main as prepare_chats
from olmo_core.data.loader import Loader
from olmo_core.data.manifest import Manifest
from olmo_core.run.folder import RunFolder, read_metrics

LENGTH, BATCH = 64, 8
EOS, PAD = "<|endoftext|>", "<|padding|>"
STEPS = (
    "--reset_trainer_state", f"model.max_sequence_length={LENGTH}", "data.instance_filter=null",
    "max_duration=4", "stop_at=4", "scheduler.t_warmup=0", "core.order=olmo",
)  # fmt: skip


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """40 questions and answers as ids below 100, a character each."""
    folder = tmp_path_factory.mktemp("chats")
    characters = string.ascii_lowercase + string.digits + "<|>?=+"
    alphabet = {character: number for number, character in enumerate([*characters, "Ċ", "Ġ"], 2)}
    tokenizer = Tokenizer(models.BPE(vocab={EOS: 0, PAD: 1, **alphabet}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(EOS, special=True), AddedToken(PAD, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with (folder / "chat.jsonl").open("w") as out:
        for number in range(40):
            question = {"role": "user", "content": f"{number}+{number}?"}
            answer = {"role": "assistant", "content": f"{2 * number}"}
            out.write(json.dumps({"messages": [question, answer]}) + "\n")
    prepare_chats([
        str(folder / "chat.jsonl"), f"--tokenizer={folder}", f"--output={folder / 'out'}",
        f"--eos_token={EOS}", f"--pad_token={PAD}", f"--sequence_length={LENGTH}",
    ])  # fmt: skip
    paths = [folder / "out" / name for name in ("input_ids.npy", "label_mask.npy")]
    return [f"--data.paths=[{paths[0]}]", f"--data.label_mask_paths=[{paths[1]}]"]


def test_the_loss_is_that_of_the_answers(
    chats: list[str], undisturbed: Path, train: Callable[..., int], tmp_path: Path
) -> None:
    """The first step against plain torch: labels, loss, gradient norm, by a loop over answers."""
    assert train("fine", *chats, f"load_path={undisturbed}", *STEPS) == 0
    rows = read_metrics(tmp_path / "fine" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    ids, masks = (np.fromfile(text.split("[")[1].rstrip("]"), kind).reshape(-1, LENGTH)
                  for text, kind in zip(chats, ("<u2", "?"), strict=True))  # fmt: skip
    shuffled = np.arange(len(ids), dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed=1)).shuffle(shuffled)
    model = load_model(undisturbed / "model")
    total, count = torch.zeros(()), 0
    for instance in shuffled[:BATCH]:
        logits = model(torch.from_numpy(ids[instance].astype(np.int64))[None])[0].float()
        for place in range(1, LENGTH):
            if masks[instance, place]:
                target = torch.tensor(int(ids[instance, place]))
                total = total + F.cross_entropy(logits[place - 1], target)
                total = total + 1e-5 * logits[place - 1].logsumexp(0).square()
                count += 1
    assert 0 < count < BATCH * LENGTH / 2
    (total / count).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    logged = rows[0]["train/CrossEntropyLoss"] + rows[0]["train/ZLoss"]
    assert logged == pytest.approx((total / count).item(), rel=1e-5)
    assert rows[0]["optim/total_grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert rows[-1]["train/CrossEntropyLoss"] < rows[0]["train/CrossEntropyLoss"]
    parent = RunFolder(tmp_path / "fine").read_result()["report"]["data"]["parent"]
    assert parent["step"] == 12


def test_rows_of_another_length_than_the_model_s_are_refused(
    chats: list[str], train: Callable[..., int], tmp_path: Path
) -> None:
    assert train("fine", *chats, *STEPS, "model.max_sequence_length=32") == 3
    said = (tmp_path / "said.txt").read_text()
    assert "rows of 64 tokens, but model.max_sequence_length is 32" in said


def test_the_official_filter_would_leave_nothing(
    chats: list[str], undisturbed: Path, train: Callable[..., int], tmp_path: Path
) -> None:
    """Said before a step is spent: padding repeats itself."""
    kept = [step for step in STEPS if "instance_filter" not in step]
    narrow = "--data.instance_filter={repetition_max_count: 16}"
    assert train("fine", *chats, f"load_path={undisturbed}", narrow, *kept) == 3
    assert "masks 40 of them" in (tmp_path / "said.txt").read_text()


def test_a_step_without_a_label_changes_little_and_breaks_nothing(
    token_files: list[str], train: Callable[..., int], tmp_path: Path
) -> None:
    """Only the last window has labels: most steps have none, and all are finite."""
    tokens = np.fromfile(token_files[0], "<u2")
    mask = np.zeros(len(tokens), dtype=np.bool_)
    mask[-64:] = True
    mask.tofile(tmp_path / "mask.npy")
    assert train("run", f"data.paths=[{token_files[0]}]", "core.order=olmo", "stop_at=6",
                 f"data.label_mask_paths=[{tmp_path / 'mask.npy'}]") == 0  # fmt: skip
    manifest = Manifest.from_paths(
        token_files[:1], dtype="uint16", label_mask_paths=[str(tmp_path / "mask.npy")]
    )
    data = Loader(manifest=manifest, sequence_length=32, global_batch_size=BATCH, seed=1)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    empty = 0
    for step, row in enumerate(rows):
        batch = data.batch(step)
        assert batch.label_mask is not None
        assert np.isfinite(row["optim/total_grad_norm"])
        if batch.label_mask[:, 1:].any():
            assert np.isfinite(row["train/CrossEntropyLoss"])
        else:
            empty += 1
            assert "train/CrossEntropyLoss" not in row
            assert row["optim/total_grad_norm"] == 0
    assert 3 <= empty <= 6
