"""Log-likelihood of documents, and Paloma's 585 domains, against lm-eval and transformers."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from olmo_core.checkpoint.huggingface import huggingface_config, load_exported, to_huggingface
from olmo_core.config.model import ModelConfig
from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
from olmo_core.data.tokenizer import read_tokenizer
from olmo_core.evals.perplexity import perplexity
from olmo_core.evals.perplexity.scoring import score_documents
from olmo_core.evals.rows import EvaluatedModel, read_rows
from olmo_core.files import sha256_file, write_json
from olmo_core.model.transformer import Transformer
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job
from tests.olmo_core.checkpoint.models import OLMO1, OLMO2

SHAPE = {"vocab_size": 400, "embedding_size": 448, "max_sequence_length": 64}
FAMILIES = {
    "olmo": ModelConfig(**{**OLMO1, **SHAPE, "weight_tying": True}),
    "olmo 0724": ModelConfig(**{**OLMO1, **SHAPE, "weight_tying": False, "clip_qkv": 0.5}),
    "olmo2": ModelConfig(**{**OLMO2, **SHAPE}),
}
# Sources of Paloma's first version with their domains: 585.
PALOMA = {
    **dict.fromkeys(("c4_en", "mc4", "wikitext_103", "ptb", "falcon-refinedweb", "gab"), 1),
    "4chan": 1,
    "redpajama": 7,
    "dolma-v1_5": 6,
    "m2d2_s2orc": 167,
    "m2d2_wikipedia": 49,
    "c4_100_domains": 99,
    "dolma_100_subreddits": 100,
    "dolma_100_programing_languages": 100,
    "twitterAAE": 2,
    "manosphere": 9,
    "pile": 22,
    "ice": 17,
}


def export(config: ModelConfig, tokenizer: Path, folder: Path) -> EvaluatedModel:
    """A model of random weights as a Hugging Face folder."""
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3)
    folder.mkdir(parents=True)
    state = to_huggingface({name: p.detach() for name, p in model.named_parameters()}, config)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", huggingface_config(config, eos_token_id=0, pad_token_id=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((tokenizer / name).read_bytes())
    sha256 = sha256_file(folder / "model.safetensors")
    facts: dict[str, Any] = {"model": "m", "revision": "main", "step": 1, "tokens": 64}
    return EvaluatedModel(**facts, sha256=sha256, folder=lambda: folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_bits_per_byte_of_each_document(family: Any, name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # small products: more threads wait for each other
    folder = export(FAMILIES[name], family.runs["tokenizer"], tmp_path / "export").path
    paragraph = Path(__file__).read_text()
    texts = [
        paragraph[:3000],
        paragraph[3000:3100],
        "x",
        "  \n\t ",
        "naïve — “quoted” ☃ 漢字 🙂",
        "a a a a " * 60,
        "",
        *(paragraph[start : start + 37 * n] for n, start in enumerate(range(0, 2000, 100))),
    ]
    arguments: dict[str, Any] = {
        "pretrained": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "batch_size": 4,
        "logits_cache": False,
    }
    lm: Any = HFLM(**arguments)

    class Request:
        def __init__(self, text: str) -> None:
            self.args = (text,)

    requests: Any = [Request(text) for text in texts]
    theirs = lm.loglikelihood_rolling(requests, disable_tqdm=True)
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    ours = score_documents(
        [load_exported(folder, torch.device("cpu"))],
        (np.array(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts),
        eos_token_id=0,
        max_window=lm.max_length,
        batch_tokens=200,
    )
    for text, (tokens, value), expected in zip(texts, ours, theirs, strict=True):
        assert bool(tokens) == bool(text)
        if text:
            per_byte = len(text.encode()) * math.log(2)
            assert -value / per_byte == pytest.approx(-expected / per_byte, rel=1e-6)
        else:
            assert value == expected == 0.0


def write_paloma(folder: Path) -> dict[tuple[str, str], list[str]]:
    """A tree in Paloma's layout; returns the texts of each domain."""
    rng = np.random.default_rng(0)
    words = sorted({word for word in Path(__file__).read_text().split() if len(word) < 12})
    texts: dict[tuple[str, str], list[str]] = {}
    for source, domains in PALOMA.items():
        path = folder / source / "val" / f"{source}.jsonl.gz"
        path.parent.mkdir(parents=True)
        with gzip.open(path, "wt", encoding="utf-8") as lines:
            for number in range(2 * domains):  # each domain's documents lie apart
                domain = source if domains == 1 else f"{number % domains:03d}_{source}"
                text = " ".join(rng.choice(words, rng.integers(2, 14)))
                texts.setdefault((source, domain), []).append(text)
                row = {"id": f"{source}-{number}", "text": text, "source": source, "added": ""}
                row |= {} if domains == 1 else {"subdomain": domain}
                lines.write(json.dumps(row) + "\n")
    return texts


def test_palomas_585_domains(family: Any, tmp_path: Path) -> None:
    model = export(FAMILIES["olmo2"], family.runs["tokenizer"], tmp_path / "export")
    texts = write_paloma(tmp_path / "paloma")
    assert len(texts) == 585
    paloma = PerplexitySet(name="paloma", kind="paloma", folder=str(tmp_path / "paloma"))
    with Job.open(tmp_path / "root" / "recipe" / "perplexity" / "v") as job:
        made = perplexity.score_models(PerplexityConfig(sets=(paloma,)), [model], None, job)
        job.finish(made)
    numbers = RunFolder(job.folder).read_result()["report"]["numbers"]
    counted = [numbers[key] for key in ("sources", "domains", "documents", "domains_left_out")]
    assert counted == [18, 585, 2 * 585, 0]
    assert made.tables["sets"][0]["note"] == ""
    rows = read_rows(job.folder / "rows.parquet")
    found = {(row["task"], row["metric"]): row["value"] for row in rows}
    several = {source: domains for source, domains in PALOMA.items() if domains > 1}
    assert len({task for task, _ in found}) == 1 + 18 + sum(several.values())
    # transformers' own model, in f64, a document at a time.
    theirs = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float64)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model.path)
    for source, domain in (
        ("ptb", "ptb"),
        ("c4_100_domains", "098_c4_100_domains"),
        ("m2d2_s2orc", "042_m2d2_s2orc"),
    ):
        nats = tokens = 0.0
        for text in texts[source, domain]:
            ids = torch.tensor([[0, *tokenizer(text).input_ids]])
            assert ids.shape[1] <= 64
            with torch.no_grad():
                scores = theirs(ids[:, :-1]).logits.log_softmax(-1)
            nats -= scores.gather(-1, ids[:, 1:, None]).sum().item()
            tokens += ids.shape[1] - 1
        whole = " ".join(texts[source, domain])  # of two texts: one blank too much
        expected = {
            "loss": nats / tokens,
            "bits_per_byte": nats / (len(whole.encode()) - 1) / math.log(2),
            "perplexity_token": math.exp(nats / tokens),
            "perplexity_word": math.exp(nats / len(whole.split())),
            "perplexity_char": math.exp(nats / (len(whole) - 1)),
            "perplexity_byte": math.exp(nats / (len(whole.encode()) - 1)),
        }
        task = f"paloma/{source}" + ("" if domain == source else f"/{domain}")
        for metric, value in expected.items():
            assert found[task, metric] == pytest.approx(value, rel=1e-5)
    for source, domains in several.items():
        parts = [
            value
            for (task, metric), value in found.items()
            if task.startswith(f"paloma/{source}/") and metric == "bits_per_byte"
        ]
        assert len(parts) == domains
        assert found[f"paloma/{source}", "bits_per_byte"] == pytest.approx(np.mean(parts))
    per_source = [found[f"paloma/{source}", "bits_per_byte"] for source in PALOMA]
    assert found["paloma", "macro_bits_per_byte"] == pytest.approx(np.mean(per_source))
