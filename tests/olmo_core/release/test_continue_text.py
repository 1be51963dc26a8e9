"""Continuations against transformers: its greedy search, and its warpers of distributions."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.logits_process import LogitsProcessorList

from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.errors import InputError
from olmo_core.release.continue_text import Request, choose, continuations


@pytest.fixture
def request_of(family: Any) -> Request:
    folder = family.runs["export"] / "exports" / "soup"
    return Request(
        model=str(folder),
        tokenizer=None,
        prompt="A language",
        count=1,
        max_new_tokens=12,
        temperature=0.0,
        top_p=1.0,
        seed=0,
    )


def test_greedy_is_that_of_transformers(request_of: Request) -> None:
    [found] = continuations(request_of)
    tokenizer = read_tokenizer(Path(request_of.model) / "tokenizer.json")
    ids = torch.tensor([tokenizer.encode(request_of.prompt, add_special_tokens=False).ids])
    model: Any = AutoModelForCausalLM.from_pretrained(request_of.model, dtype=torch.float32)
    expected = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    ended = expected[-1] == model.config.eos_token_id
    assert found.text == tokenizer.decode(expected[:-1] if ended else expected)
    assert (found.tokens, found.ended) == (len(expected), ended)


def test_a_model_of_ours_says_what_its_export_says(family: Any, request_of: Request) -> None:
    own = {"model": str(family.runs["soup"] / "model"), "tokenizer": str(family.runs["tokenizer"])}
    warm = replace(request_of, temperature=1.0, count=2)
    assert [*continuations(replace(warm, **own))] == [*continuations(warm)]


def test_a_seed_gives_the_same_text_whatever_the_number_of_others(request_of: Request) -> None:
    warm = replace(request_of, temperature=1.2, top_p=0.95, seed=5)
    several = [*continuations(replace(warm, count=3))]
    assert [*continuations(warm)] == several[:1]
    assert [*continuations(replace(warm, seed=6))] == several[1:2]
    assert len({each.text for each in several}) == 3


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.5, 0.8), (1.0, 0.0)])
def test_tokens_are_drawn_as_transformers_would(temperature: float, top_p: float) -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 2
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p)])
    expected = warpers(torch.zeros(1, 1, dtype=torch.long), logits[None].clone())[0].softmax(-1)  # pyright: ignore[reportArgumentType]
    random = torch.Generator().manual_seed(0)
    drawn = [choose(logits, temperature, top_p, random) for _ in range(20_000)]
    shares = torch.bincount(torch.tensor(drawn), minlength=12) / len(drawn)
    assert not shares[expected == 0].any(), "outside of the nucleus"
    assert (shares - expected).abs().max() < 0.015  # four standard deviations


def test_what_does_not_fit_or_is_no_number_is_refused(request_of: Request) -> None:
    with pytest.raises(InputError, match="tokens of the prompt and 100000 new ones"):
        next(continuations(replace(request_of, max_new_tokens=100_000)))
    with pytest.raises(InputError, match="it has diverged"):
        choose(torch.tensor([0.0, float("nan")]), 1.0, 1.0, torch.Generator())


def test_an_empty_prompt_begins_a_document(request_of: Request) -> None:
    [found] = continuations(replace(request_of, prompt=""))
    assert found.tokens >= 1


def test_the_process_answers_in_json_and_says_what_is_wrong(request_of: Request) -> None:
    def asked(request: Request) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "olmo_core.release.continue_text"]
        given = json.dumps(asdict(request))
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    done = asked(replace(request_of, count=2, temperature=1.0))
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [
        each.text for each in continuations(replace(request_of, count=2, temperature=1.0))
    ]
    done = asked(replace(request_of, model="/nowhere"))
    assert done.returncode == 3
    assert "/nowhere: no tokenizer.json" in done.stderr
