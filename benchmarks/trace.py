"""Is lineage right? Compare it with what training's own loader gives, searched for to the letter.

For every step of each training run of a recipe, the tokens of the global batch are taken from the
loader that training builds, and looked for in the token files; whose they are is read from the rows
beside these. For random documents, the steps are those of this search over all steps.

    OLMO_ROOT=runs python benchmarks/trace.py demo
"""

import argparse
import csv
import dataclasses
import gzip
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assets.lineage.answers import trace_document
from assets.lineage.runs import Lineage
from olmo_core.config.duration import Origin
from olmo_core.config.train import load_train_config
from olmo_core.data.format import rows_path
from olmo_core.data.loader import Batch
from olmo_core.lineage.batch import TracedInstance, documents_of_step
from olmo_core.lineage.run import TrainingRun
from olmo_core.train.build import build_loader

Share = tuple[str, int, int]  # a document's id, and its tokens [start, stop) from its first on


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A document's tokens in an instance of a step."""

    step: int
    instance: int
    start: int
    stop: int
    masked: bool


class Mix:
    """The joined streams of a manifest, read with numpy, and whose each token is."""

    def __init__(self, manifest: Path, tokens: Path) -> None:
        content = json.loads(manifest.read_text())
        self._dtype = np.dtype(content["dtype"]).newbyteorder("<")
        self._rows: dict[str, tuple[np.ndarray, list[str]]] = {}
        self._streams: list[tuple[bytes, list[tuple[str, int, int]], np.ndarray]] = []
        for stream in content["streams"]:
            ranges = stream["ranges"]
            parts = [(each["path"]["path"], each["start"], each["stop"]) for each in ranges]
            joined = b"".join(
                np.fromfile(
                    tokens / path,
                    self._dtype,
                    count=stop - start,
                    offset=start * self._dtype.itemsize,
                ).tobytes()
                for path, start, stop in parts
            )
            ends = np.cumsum([stop - start for _, start, stop in parts])
            self._streams.append((joined, parts, ends))
            for path, *_ in parts:
                self._rows.setdefault(path, self._read_rows(tokens / path))

    def shares(self, ids: np.ndarray) -> Iterator[list[Share]]:
        """Yield whose the tokens of an instance are, for each place where these very ones stand."""
        wanted, size = ids.astype(self._dtype).tobytes(), self._dtype.itemsize
        for joined, parts, ends in self._streams:
            at = joined.find(wanted)
            while at >= 0:
                if at % size == 0:
                    yield [*self._of_place(at // size, len(ids), parts, ends)]
                at = joined.find(wanted, at + 1)

    def _of_place(
        self, start: int, length: int, parts: Sequence[tuple[str, int, int]], ends: np.ndarray
    ) -> Iterator[Share]:
        stop = start + length
        while start < stop:
            number = int(np.searchsorted(ends, start, side="right"))
            path, _, last = parts[number]
            place = last - (int(ends[number]) - start)  # in the file
            until = min(last, place + stop - start)
            document_ends, ids = self._rows[path]
            while place < until:
                row = int(np.searchsorted(document_ends, place, side="right"))
                begin = int(document_ends[row - 1]) if row else 0
                end = min(until, int(document_ends[row]))
                yield ids[row], place - begin, end - begin
                start, place = start + end - place, end

    def _read_rows(self, path: Path) -> tuple[np.ndarray, list[str]]:
        with gzip.open(rows_path(path), "rt", newline="") as lines:
            rows = list(csv.reader(lines))
        return np.array([int(row[1]) for row in rows]), [row[2] for row in rows]


class Oracle:
    """What a run has read, by training's own loader and by search."""

    def __init__(self, lineage: Lineage, run: TrainingRun) -> None:
        folder = run.folder
        manifest = lineage.input(folder, lineage.mix_of(folder)) / "manifest.json"
        tokens = lineage.input(folder, "tokens")
        config, _ = load_train_config(folder.config)
        here = dataclasses.replace(config.core, manifest=manifest, roots={"tokens": tokens})
        loader = build_loader(dataclasses.replace(config, core=here))
        order = folder.read_result()["report"]["data"]["order"]
        self._loader = loader.beginning_at(Origin(**order.get("origin", {})))
        self._mix = Mix(manifest, tokens)

    def batch(self, step: int) -> Batch:
        """Return the global batch that training got in a step."""
        return self._loader.batch(step - 1)

    def require(self, ids: np.ndarray, masked: bool, traced: TracedInstance) -> None:
        """Refuse an instance that was traced to other documents than hold its tokens."""
        found = [(each.document.id, each.start, each.stop) for each in traced.pieces]
        assert any(found == shares for shares in self._mix.shares(ids)), (found, traced)
        assert traced.masked == masked, traced


def check(recipe: str, *, documents: int | None, seed: int = 0) -> dict[str, Any]:
    """Compare every step of a recipe's finished training runs, and random documents; None: all.

    Returns:
        How many were compared, and the milliseconds that tracing took.
    """
    rng = np.random.default_rng(seed)
    lineage = Lineage(recipe)
    runs = [run for run in map(lineage.run, lineage.training) if run.finished]
    visits: dict[tuple[str, str], list[Visit]] = {}
    times: dict[str, list[float]] = {"step": [], "document": []}
    masked_instances = 0
    for run in runs:
        oracle = Oracle(lineage, run)
        for step in range(run.first_step, run.last_step + 1):
            batch = oracle.batch(step)
            began = time.perf_counter()
            traced = documents_of_step(run, lineage.index(run.folder), step)
            times["step"].append(time.perf_counter() - began)
            for instance, ids, kept in zip(
                traced.instances, batch.input_ids, batch.instance_mask.tolist(), strict=True
            ):
                oracle.require(ids, not kept, instance)
                masked_instances += not kept
                for piece in instance.pieces:
                    visit = Visit(
                        step=step,
                        instance=instance.instance,
                        start=piece.start,
                        stop=piece.stop,
                        masked=not kept,
                    )
                    visits.setdefault((run.label, piece.document.id), []).append(visit)
    asked = _documents(lineage, runs, documents, rng)
    for doc_id in asked:
        began = time.perf_counter()
        (answer,), untraced = trace_document(lineage, doc_id)
        times["document"].append(time.perf_counter() - began)
        assert not untraced, untraced
        for seen in answer.runs:
            found = [
                Visit(
                    step=each.step,
                    instance=each.instance,
                    start=each.start,
                    stop=each.stop,
                    masked=each.masked,
                )
                for each in seen.visits
            ]
            assert found == visits.get((seen.run.label, doc_id), []), (doc_id, seen.run.label)
    return {
        "runs": [run.label for run in runs],
        "steps": len(times["step"]),
        "masked_instances": masked_instances,
        "documents": len(asked),
        "of_these_seen": len({doc_id for _, doc_id in visits}.intersection(asked)),
        **{f"median_ms_per_{what}": 1000 * float(np.median(t)) for what, t in times.items()},
    }


def _documents(
    lineage: Lineage, runs: Sequence[TrainingRun], count: int | None, rng: np.random.Generator
) -> list[str]:
    """Return ids of documents in token files, seen or not."""
    ids: dict[str, None] = {}
    for run in runs:
        for path in sorted(lineage.input(run.folder, "tokens").glob("tokens/**/*.csv.gz")):
            with gzip.open(path, "rt", newline="") as lines:
                ids |= dict.fromkeys(row[2] for row in csv.reader(lines))
    names = list(ids)
    if count is None:
        return names
    return [names[n] for n in rng.choice(len(names), min(count, len(names)), replace=False)]


def main() -> None:
    """Check a recipe, and print what was compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="demo")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = check(arguments.recipe, documents=arguments.documents, seed=arguments.seed)
    for key, value in found.items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
