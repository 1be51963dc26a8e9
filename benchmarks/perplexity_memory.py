"""What the job `perplexity` holds in memory at most, on small and large sets of JSON lines.

example:
  python benchmarks/perplexity_memory.py --mb=4,32        two sizes of each kind: four minutes

  short  documents of 20 words: the more, the more is kept of them until a source is scored
  long   documents of 50,000 words

Each set is one source, scored by a small model of random weights in a process of its own, a batch
per core at a time. `peak` is the largest memory of that process, torch with it. Bound: from the
first size of a kind to the last it grows by no more than 64 MiB and 400 bytes per document.
"""

import argparse
import gzip
import json
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = [f"{first}{second}" for first in "bcdfghklmnprstvw" for second in ("aro", "eli", "inu")]
KINDS = {"short": 20, "long": 50_000}  # words of a document
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


def write_set(path: Path, words: int, size: int) -> int:
    """Write documents of so many words each, `size` bytes of text; return how many they are."""
    choose = random.Random(0)
    documents = max(1, round(size / (5 * words)))  # a word and its blank
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as lines:
        for _ in range(documents):
            lines.write(json.dumps({"text": " ".join(choose.choices(WORDS, k=words))}) + "\n")
    return documents


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


def measure(root: Path, path: Path, documents: int, found: Any) -> None:
    """Score a set, and send the largest memory of this process (bytes)."""
    from olmo_core.config.perplexity import PerplexityConfig, PerplexitySet
    from olmo_core.evals.perplexity.perplexity import score_models
    from olmo_core.evals.rows import EvaluatedModel
    from olmo_core.files import sha256_file
    from olmo_core.run.job import Job
    from olmo_core.run.process import own_peak_memory_bytes

    facts: dict[str, Any] = {"model": "random", "revision": None, "step": None, "tokens": None}
    sha256 = sha256_file(root / "model" / "model.safetensors")
    model = EvaluatedModel(**facts, sha256=sha256, folder=lambda: root / "model")
    each = PerplexitySet(name="texts", kind="documents", sources={"all": (str(path),)})
    began = time.perf_counter()
    with Job.open(root / "root" / "recipe" / "perplexity" / path.name) as job:
        report = score_models(PerplexityConfig(sets=(each,)), [model], None, job)
        job.finish(report)
    assert report.numbers["documents"] == documents
    found.send((own_peak_memory_bytes(), time.perf_counter() - began))


def main() -> None:
    """Score sets of each kind and size; exit with 1 where the memory grows beyond the bound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", default="4,32", help="sizes of the text (4,32)")
    options = parser.parse_args()
    sizes = [round(float(size) * 1e6) for size in options.mb.split(",")]
    spawn = multiprocessing.get_context("spawn")  # each with a peak of its own
    grown = False
    print("kind   text MB  documents  peak MiB  seconds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_model(root / "model")
        for kind, words in KINDS.items():
            peaks: list[tuple[int, int]] = []  # documents, bytes
            for size in sizes:
                path = root / f"{kind}-{size}.jsonl.gz"
                documents = write_set(path, words, size)
                ours, theirs = spawn.Pipe(duplex=False)
                process = spawn.Process(target=measure, args=(root, path, documents, theirs))
                process.start()
                theirs.close()
                peak, seconds = ours.recv()
                process.join()
                print(
                    f"{kind:5}  {size / 1e6:7.1f}  {documents:9,}  {peak / 2**20:8.0f}  "
                    f"{seconds:7.0f}",
                    flush=True,
                )
                peaks.append((documents, peak))
            (few, low), (many, high) = peaks[0], peaks[-1]
            grown |= high - low > SLACK + PER_DOCUMENT * (many - few)
    if grown:
        raise SystemExit(
            f"above the bound of {SLACK >> 20} MiB and {PER_DOCUMENT} bytes a document"
        )


if __name__ == "__main__":
    main()
