"""What the job `perplexity` holds in memory at most, on small and large sets of JSON lines.

examples:
  python benchmarks/perplexity_memory.py --mb=4,32        two sizes of each kind: four minutes
  python benchmarks/perplexity_memory.py --kinds=paloma

  short   documents of 20 words: the more, the more is kept of them until a source is scored
  long    documents of 50,000 words
  paloma  documents of 400 words in the 18 sources and 585 domains of Paloma's first version

Each set is scored by a small model of random weights in a process of its own, a batch per core at
a time; `short` and `long` are one source. `peak` is the largest memory of that process, torch with
it; `loaded` what it held before a document was read, torch and the model. Bounds: from the first
size of a kind to the last the peak grows by no more than 64 MiB and 400 bytes per document. Losses
of three of Paloma's domains are those that transformers' model has, a window at a time, to 1e-6.
"""

import argparse
import gzip
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

WORDS = [f"{first}{second}" for first in "bcdfghklmnprstvw" for second in ("aro", "eli", "inu")]
KINDS = {"short": 20, "long": 50_000, "paloma": 400}  # words of a document
# Paloma's sources -> domains (https://arxiv.org/abs/2312.10523, table 1).
PALOMA = {
    **dict.fromkeys(
        ("4chan", "c4_en", "falcon-refinedweb", "gab", "mc4", "ptb", "wikitext_103"), 1
    ),
    **{"c4_100_domains": 99, "dolma-v1_5": 6, "dolma_100_programing_languages": 100},
    **{"dolma_100_subreddits": 100, "ice": 17, "m2d2_s2orc": 167, "m2d2_wikipedia": 49},
    **{"manosphere": 9, "pile": 22, "redpajama": 7, "twitterAAE": 2},
}
COMPARED = ("dolma_100_subreddits", "m2d2_s2orc", "pile")  # the first domain of each
CLOSE = 1e-6  # relative
PER_DOCUMENT, SLACK = 400, 64 << 20  # bytes
EOS = 0
SHAPE = {
    "d_model": 64,
    "n_heads": 2,
    "n_layers": 2,
    "feed_forward_size": 128,
    "vocab_size": 64,
    "sequence_length": 512,
}


def texts(words: int, size: int) -> Iterator[str]:
    """Yield documents of so many words each, `size` bytes of text in all."""
    choose = random.Random(0)
    for _ in range(max(1, round(size / (5 * words)))):  # a word and its blank
        yield " ".join(choose.choices(WORDS, k=words))


def write_source(path: Path, words: int, size: int) -> dict[str, Any]:
    """Write a set of one source; return its section."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as lines:
        for text in texts(words, size):
            lines.write(json.dumps({"text": text}) + "\n")
    return {"kind": "documents", "sources": {"all": (str(path),)}}


def write_paloma(folder: Path, words: int, size: int) -> dict[str, Any]:
    """Write a set in Paloma's layout, a document per domain in turn; return its section."""
    domains = [(source, n) for source, count in PALOMA.items() for n in range(count)]
    with ExitStack() as stack:
        files: dict[str, Any] = {}
        for source in PALOMA:
            path = folder / source / "val" / "part.jsonl.gz"
            path.parent.mkdir(parents=True)
            files[source] = stack.enter_context(gzip.open(path, "wt", compresslevel=1))
        for number, text in enumerate(texts(words, size)):
            source, domain = domains[number % len(domains)]
            row = {
                "id": f"{number}",
                "text": text,
                "subdomain": source if PALOMA[source] == 1 else f"{source}_{domain}",
            }
            files[source].write(json.dumps(row) + "\n")
    return {"kind": "paloma", "folder": str(folder)}


def write_model(folder: Path) -> None:
    """Write a small model of random weights, and a tokenizer that knows the words."""
    from olmo2 import model_config, write_random_model
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    write_random_model(folder, model_config(SHAPE), eos_token_id=EOS)
    vocabulary = {word: number for number, word in enumerate(["<|endoftext|>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def measure(root: Path, name: str, section: dict[str, Any], found: Any) -> None:
    """Score a set; send its documents, the memory of this process before and at most, seconds."""
    from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
    from olmo_core.evals.perplexity.perplexity import score_models
    from olmo_core.evals.perplexity.scoring import load_replicas
    from olmo_core.evals.rows import EvaluatedModel
    from olmo_core.files import sha256_file
    from olmo_core.run.job import Job
    from olmo_core.run.process import own_peak_memory_bytes

    facts: dict[str, Any] = {"model": "random", "revision": None, "step": None, "tokens": None}
    sha256 = sha256_file(root / "model" / "model.safetensors")
    model = EvaluatedModel(**facts, sha256=sha256, folder=lambda: root / "model")
    load_replicas(root / "model", 1)
    loaded = own_peak_memory_bytes()
    each = PerplexitySet(name="texts", **section)
    began = time.perf_counter()
    with Job.open(root / "root" / "recipe" / "perplexity" / name) as job:
        report = score_models(PerplexityConfig(sets=(each,)), [model], None, job)
        job.finish(report)
    seconds = time.perf_counter() - began
    found.send((report.numbers["documents"], loaded, own_peak_memory_bytes(), seconds))


def furthest(root: Path, name: str, folder: Path) -> float:
    """Return how far (relative) the losses of three domains are from those computed here."""
    import torch
    from tokenizers import Tokenizer

    from olmo_core.checkpoint.huggingface import load_pretrained
    from olmo_core.evals.rows import read_rows

    model: Any = load_pretrained(root / "model", torch.device("cpu"))
    tokenizer = Tokenizer.from_file(str(root / "model" / "tokenizer.json"))
    rows = read_rows(root / "root" / "recipe" / "perplexity" / name / "rows.parquet")
    losses = {row["task"]: row["value"] for row in rows if row["metric"] == "loss"}
    domains = [task for task in losses if task.count("/") == 2]
    single = [task for task in losses if task.count("/") == 1 and PALOMA[task.split("/")[1]] == 1]
    if len(domains) + len(single) != sum(PALOMA.values()):
        raise SystemExit(f"{len(domains)} domains and {len(single)} sources of one")
    length, apart = SHAPE["sequence_length"], 0.0
    for source in COMPARED:
        nats, count = 0.0, 0
        with gzip.open(folder / source / "val" / "part.jsonl.gz", "rt") as lines:
            own = [row for row in map(json.loads, lines) if row["subdomain"] == f"{source}_0"]
        for row in own:
            ids = [EOS, *tokenizer.encode(row["text"], add_special_tokens=False).ids]
            for start in range(0, len(ids) - 1, length):
                stop = min(start + length, len(ids) - 1)
                begin = max(0, stop - length)
                with torch.no_grad():
                    logits = model(torch.tensor([ids[begin:stop]])).logits[0].double()
                chosen = torch.tensor(ids[start + 1 : stop + 1])[:, None]
                nats -= float(logits.log_softmax(-1)[start - begin :].gather(1, chosen).sum())
                count += stop - start
        found = losses[f"texts/{source}/{source}_0"]
        print(f"{source}_0: {found:.9f}, {nats / count:.9f} by transformers", flush=True)
        apart = max(apart, abs(found * count / nats - 1))
    return apart


def main() -> None:
    """Score sets of each kind and size; exit with 1 where the memory grows beyond the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", default="4,32", help="sizes of the text (4,32)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"({','.join(KINDS)})")
    options = parser.parse_args()
    sizes = [round(float(size) * 1e6) for size in options.mb.split(",")]
    spawn = multiprocessing.get_context("spawn")  # each with a peak of its own
    wrong: list[str] = []
    print("kind    text MB  documents  loaded MiB  peak MiB  seconds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_model(root / "model")
        for kind in options.kinds.split(","):
            peaks: list[tuple[int, int]] = []  # documents, bytes
            write = write_paloma if kind == "paloma" else write_source
            for size in sizes:
                path = root / f"{kind}-{size}.jsonl.gz"
                section = write(path, KINDS[kind], size)
                ours, theirs = spawn.Pipe(duplex=False)
                process = spawn.Process(target=measure, args=(root, path.name, section, theirs))
                process.start()
                theirs.close()
                documents, loaded, peak, seconds = ours.recv()
                process.join()
                print(
                    f"{kind:6}  {size / 1e6:7.1f}  {documents:9,}  {loaded / 2**20:10.0f}  "
                    f"{peak / 2**20:8.0f}  {seconds:7.0f}",
                    flush=True,
                )
                peaks.append((documents, peak))
                if kind == "paloma" and (apart := furthest(root, path.name, path)) > CLOSE:
                    wrong.append(f"a domain's loss is {apart:.1e} off; bound {CLOSE}")
            (few, low), (many, high) = peaks[0], peaks[-1]
            if high - low > SLACK + PER_DOCUMENT * (many - few):
                bound = f"{SLACK >> 20} MiB and {PER_DOCUMENT} bytes a document"
                wrong.append(f"{kind}: {(high - low) >> 20} MiB more, above {bound}")
    if wrong:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
