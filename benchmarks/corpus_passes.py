"""What each pass of the corpus takes: seconds, CPU-seconds, memory; and against the bare dolma.

examples:
  python benchmarks/corpus_passes.py                      30 MB of text, with one process and two
  python benchmarks/corpus_passes.py --mb=200 --processes=2
  python benchmarks/corpus_passes.py --only=tagged,filtered --dolma
  python benchmarks/corpus_passes.py --mb=2000 --processes=2 --no-tags   # a quarter of an hour

Every pass runs as in the graph, `python -m MODULE RUN_FOLDER/config.yaml`, on modules of the
standard library and texts made of their lines, in four sources. MB are of text before the pass.
`peak` is the largest memory of any process of the pass. With several counts of processes the last
column is the first count's time over each one's. `--no-tags` leaves out `tagged`, which takes more
time than all others, and the rules on its attributes. `--dolma` adds the toolkit's own `dolma tag`
and `dolma mix` on the same documents, one process each: bar 1.15 times their CPU time.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCES = ("one", "two", "three", "four")
TAGGERS = ["gopher_v2", "c4_v2", "pii_regex_with_counts_fast_v2"]
FILE_BYTES = 4_000_000  # of text that enters
SHARD_BYTES = 8_000_000  # of text in a file of the corpus
RULES = [
    {"name": "contaminated", "attribute": "contamination__paragraphs", "above": 0.3},
    {"name": "same_text", "attribute": "duplicates__text", "above": 0},
    {"name": "too_few_words", "attribute": "tags__gopher_v2__word_count", "below": 30},
    {
        "name": "short_lines",
        "attribute": "tags__c4_v2__lines_with_too_few_words",
        "measure": "share",
        "above": 0.9,
    },
]
# asset -> its module below olmo_core.corpus, its inputs, its section of corpus.yaml
PASSES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "raw": ("intake.raw", (), {"shard_bytes": SHARD_BYTES}),
    "near_duplicates": ("duplicates.near_duplicates", ("raw",), {}),
    "held_out": (
        "duplicates.held_out",
        ("raw", "near_duplicates"),
        {"share": 0.01, "min_documents": 5, "max_domain_bytes": 1_000_000},
    ),
    "tagged": ("filters.tagged", ("held_out",), {"taggers": dict.fromkeys(SOURCES, TAGGERS)}),
    "deduplicated": ("duplicates.deduplicated", ("held_out",), {"min_paragraph_bytes": 40}),
    "decontaminated": ("duplicates.decontaminated", ("held_out",), {}),
    "filtered": (
        "filters.filtered",
        ("held_out", "tagged", "deduplicated", "decontaminated"),
        {
            "rules": dict.fromkeys(SOURCES, RULES),
            "min_kept_share": dict.fromkeys(SOURCES, 0.01),
            "shard_bytes": SHARD_BYTES,
        },
    ),
    "tokenizer": ("tokens.tokenizer", ("filtered",), {"vocab_size": 8192}),
    "tokens": ("tokens.tokens", ("filtered", "tokenizer"), {}),
    "documents": ("index.documents", ("tokens", "filtered"), {}),
}


BARE = ("tagged", "filtered")  # what the bare toolkit is compared with


def texts(megabytes: float) -> Iterator[str]:
    """Yield functions and classes of the standard library, then texts of their lines, shuffled."""
    rng = random.Random(0)
    lines: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if size >= megabytes * 1e6:
            return
        if "site-packages" in path.parts:
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n\n\n"):
            if text.strip():
                size += len(text.encode())
                lines += text.splitlines()
                yield text
    while size < megabytes * 1e6:
        start = [rng.randrange(len(lines)) for _ in range(rng.randrange(1, 40))]
        text = "\n".join(f"{lines[n]} {rng.randrange(10**6)}" for n in start)
        size += len(text.encode())
        yield text


def write_sources(folder: Path, megabytes: float) -> dict[str, Any]:
    """Write the texts as JSON lines, one source after the other in turn; return `raw`'s section."""
    filled = dict.fromkeys(SOURCES, 0)
    for number, text in enumerate(texts(megabytes)):
        source = SOURCES[number % len(SOURCES)]
        path = folder / source / f"{filled[source] // FILE_BYTES:05d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as out:
            out.write(json.dumps({"id": str(number), "text": text}) + "\n")
        filled[source] += len(text.encode())
    listed = [{"name": n, "reader": "files", "root": str(folder / n)} for n in SOURCES]
    return {"sources": listed}


def measured(command: Sequence[str], environ: Mapping[str, str], log: Path) -> dict[str, float]:
    """Run a command in a process of its own and return its seconds, CPU-seconds and peak MiB."""
    inner = [sys.executable, __file__, "--measure", *command]
    with log.open("w") as out:
        done = subprocess.run(
            inner, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=out, text=True
        )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{log.read_text()[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(command: Sequence[str]) -> None:
    """Run a command and print what it and all its descendants took."""
    began = time.perf_counter()
    code = subprocess.run(command, stdout=sys.stderr).returncode
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = {
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
    }
    print(json.dumps(facts))
    sys.exit(code)


def without_tags() -> dict[str, tuple[str, tuple[str, ...], dict[str, Any]]]:
    """Return the passes but `tagged`, and no rule on its attributes."""
    module, inputs, section = PASSES["filtered"]
    rules = [rule for rule in RULES if not str(rule["attribute"]).startswith("tags__")]
    inputs = tuple(asset for asset in inputs if asset != "tagged")
    section = {**section, "rules": dict.fromkeys(SOURCES, rules)}
    passes = {**PASSES, "filtered": (module, inputs, section)}
    del passes["tagged"]
    return passes


def run_pass(
    name: str,
    how: tuple[str, tuple[str, ...], Mapping[str, Any]],
    root: Path,
    raw: Mapping[str, Any],
    processes: int,
) -> dict[str, float]:
    """Run a pass with some processes in a fresh folder; the folder of the last one stays."""
    module, inputs, section = how
    folder = root / name
    if folder.exists():
        folder.rename(root / f"{name}.{time.time_ns()}")
    folder.mkdir(parents=True)
    config = {
        "config": {**section, **raw} if name == "raw" else section,
        "inputs": {asset: str(root / asset) for asset in inputs},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [sys.executable, "-m", f"olmo_core.corpus.{module}", str(path)]
    return measured(command, {"OLMO_PROCESSES": str(processes)}, root / f"{name}.log")


def bare_dolma(root: Path) -> dict[str, dict[str, float]]:
    """Run the toolkit's own commands on what `tagged` and `filtered` read."""
    view = root / "bare"
    view.mkdir()
    (view / "documents").symlink_to(root / "held_out" / "documents")
    dolma = Path(sys.executable).parents[2] / ".venv-dolma" / "bin" / "dolma"
    environ = {"NLTK_DATA": str(view / "nltk_data")}
    (view / "nltk_data" / "tokenizers" / "punkt").mkdir(parents=True)
    tag = [str(dolma), "tag", "--experiment", "tags", "--processes", "1", "--documents"]
    tag += [f"{view}/documents/{source}/*" for source in SOURCES]
    tag += ["--taggers", *TAGGERS]
    found = {"tagged": measured(tag, environ, root / "bare-tag.log")}
    for asset, experiment in (("deduplicated", "duplicates"), ("decontaminated", "evaluation")):
        (view / "attributes" / experiment).symlink_to(root / asset / "attributes" / experiment)
    filters = mixer_conditions()
    streams = [
        {
            "name": source,
            "documents": [f"{view}/documents/{source}/*"],
            "attributes": ["tags", "duplicates", "evaluation"],
            "filter": {"include": [], "exclude": filters, "syntax": "jq"},
            "output": {"path": f"{view}/mixed/{source}", "max_size_in_bytes": 2**31},
        }
        for source in SOURCES
    ]
    config = root / "mix.json"
    config.write_text(json.dumps({"streams": streams, "processes": 1}))
    found["filtered"] = measured([str(dolma), "-c", str(config), "mix"], environ, root / "mix.log")
    return found


def mixer_conditions() -> list[str]:
    """Return the rules as conditions for dolma's mixer."""
    from olmo_core.corpus.filters.rules import Rule

    return [Rule(**rule).jq() for rule in RULES]


def main() -> None:
    """Run the passes in turn, each with every count of processes."""
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=30, help="of text (30)")
    parser.add_argument("--processes", default="1,2", help="counts, with commas (1,2)")
    parser.add_argument("--only", default="", help="passes to report; those before run once")
    parser.add_argument("--no-tags", action="store_true", help="leave out tagged, the slowest")
    parser.add_argument("--dolma", action="store_true", help="also the bare toolkit")
    parser.add_argument("--folder", type=Path, help="to make and to keep (a temporary one)")
    options = parser.parse_args()
    counts = [int(count) for count in options.processes.split(",")]
    passes = without_tags() if options.no_tags else PASSES
    chosen = options.only.split(",") if options.only else list(passes)
    if unknown := [name for name in chosen if name not in passes]:
        parser.error(f"--only: {unknown[0]!r}; expected names of {', '.join(passes)}")
    if options.dolma and not {*BARE} <= {*chosen}:
        parser.error(f"--dolma compares {' and '.join(BARE)}; expected both to be reported")
    only = [name for name in passes if name in chosen]
    with contextlib.ExitStack() as stack:
        root = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=options.folder is None)
        raw = write_sources(root / "text", options.mb)
        size = sum(path.stat().st_size for path in (root / "text").rglob("*.jsonl")) / 1e6
        print(f"{options.mb:g} MB of text, {size:.0f} MB of JSON lines")
        print(f"{'pass':16} processes  seconds    CPU-s  MB per CPU-s  peak MiB  times faster")
        cpu: dict[str, float] = {}
        for name, how in passes.items():
            first = 0.0
            for count in counts if name in only else counts[-1:]:
                took = run_pass(name, how, root, raw, count)
                if name not in only:
                    continue
                first = first or took["seconds"]
                cpu.setdefault(name, took["cpu"])
                print(
                    f"{name:16} {count:9}  {took['seconds']:7.1f}  {took['cpu']:7.1f}  "
                    f"{options.mb / took['cpu']:12.2f}  {took['peak']:8.0f}  "
                    f"{first / took['seconds']:12.2f}",
                    flush=True,
                )
            if name == only[-1] and not options.dolma:
                return
        if options.dolma:
            bare = bare_dolma(root)
            for name, took in bare.items():
                print(f"bare dolma, {name}: {took['cpu']:.1f} CPU-s; ours {cpu[name]:.1f}")
            ours = sum(cpu[name] for name in bare)
            ratio = ours / sum(took["cpu"] for took in bare.values())
            print(f"tag and mix: {ratio:.2f} times the bare toolkit's CPU time (bar 1.15)")


if __name__ == "__main__":
    main()
