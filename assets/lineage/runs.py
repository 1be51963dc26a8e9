"""The runs of a recipe and the documents index of each: where a trace begins."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from assets.assemble import build_graph
from assets.graph import Graph
from assets.lineage.place_blocks import find_blocks
from assets.paths import root, shared_roots
from assets.recipe import load_recipe
from assets.reuse import every_run, located
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError, InputError
from olmo_core.lineage.document_batches import BatchedDocumentIndex
from olmo_core.lineage.run import TrainingRun, open_run
from olmo_core.lineage.text import Decoder
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Untraced:
    """A run of which nothing can be said, and why."""

    run: RunFolder
    why: str


class Lineage:
    """A recipe's runs in the root of results, whatever version they are of.

    Raises:
        ConfigError: there is no such recipe.
    """

    def __init__(self, recipe: str) -> None:
        self.graph: Graph = build_graph(load_recipe(recipe))
        self.root = root()

    @property
    def training(self) -> list[str]:
        """Return the names of the training assets, in the graph's order."""
        return [name for name, node in self.graph.nodes.items() if node.distributed]

    def run(self, asset: str, version: str | None = None) -> TrainingRun:
        """Return a run: that of the recipe as it stands, else the only one, else `version`.

        Raises:
            ConfigError: no such asset, or none that trains; no such run, or several.
            InputError: what it has read cannot be computed.
        """
        if asset not in self.training:
            raise ConfigError(
                f"recipe {self.graph.recipe.name} trains no {asset!r}; "
                f"{nearest(asset, self.training)}"
            )
        return self.open(self.chosen(asset, version))

    def runs(self, asset: str) -> list[RunFolder]:
        """Return all runs of an asset that are there: the recipe's own, and one that it reuses."""
        folder = self.graph.folder(self.root, asset)
        own = [RunFolder(path) for path in sorted(folder.glob("*")) if path.is_dir()]
        reused = self.graph.finished(self.root, asset)
        if reused is not None and reused.path not in [run.path for run in own]:
            own.append(reused)
        return [run for run in own if run.config.is_file()]

    def open(self, run: RunFolder) -> TrainingRun:
        """Open a training run.

        Raises:
            InputError: what it has read cannot be computed.
        """
        try:
            return self._open(run.path)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{run.path}: its order cannot be read ({error!r}): made by an earlier version?"
            ) from None

    def index(self, run: RunFolder) -> BatchedDocumentIndex:
        """Return the documents index of the tokens that a run reads.

        Raises:
            InputError: there is none.
        """
        return self.open_index(self.index_folder(run))

    def index_folder(self, run: RunFolder) -> Path:
        """Return the run folder of `documents` that is of the tokens which a run reads.

        Raises:
            InputError: there is none.
        """
        tokens = self.record(run)["inputs"]["tokens"]
        found = self._indexes.get(tokens["digest"])
        if found is None:
            raise InputError(
                f"{run.path}: no documents index of the tokens that it reads "
                f"({located(tokens, run, self.root)}); olmo run {self.graph.recipe.name} "
                "--select documents makes that of the recipe as it stands"
            )
        return found.path

    def indexes(self, runs: Sequence[RunFolder]) -> list[Path]:
        """Return the run folders of `documents` of these runs, and that of the recipe as it is.

        Raises:
            InputError: one of the runs has none.
        """
        current = self.graph.finished(self.root, "documents")
        found = self.indexes_of(runs)
        return list(dict.fromkeys(found + ([] if current is None else [current.path])))

    def indexes_of(self, runs: Sequence[RunFolder]) -> list[Path]:
        """Return the run folders of `documents` of the tokens that these runs read.

        Raises:
            InputError: one of the runs has none.
        """
        return list(dict.fromkeys(self.index_folder(run) for run in runs))

    def tokens_of(self, index: Path) -> RunFolder:
        """Return the run folder of `tokens` that a run of `documents` is of."""
        run = RunFolder(index)
        return RunFolder(self.input(run, "tokens"))

    def tokenizer_of(self, tokens: RunFolder) -> Path:
        """Return the `tokenizer.json` that a run of `tokens` was made with."""
        return self.input(tokens, "tokenizer") / "tokenizer.json"

    def decoder(self, run: TrainingRun) -> Decoder:
        """Return what decodes the documents that a run reads."""
        return Decoder(self.input(run.folder, "tokenizer") / "tokenizer.json", run.data)

    def record(self, run: RunFolder) -> Mapping[str, Any]:
        """Return what a run has recorded of its inputs: its result, else what was submitted.

        Raises:
            InputError: nothing.
        """
        record = run.read_result() if run.finished else run.read(run.launch)
        if record is None:
            raise InputError(f"{run.path}: has neither a result nor a launch.json")
        return record

    def input(self, run: RunFolder, name: str) -> Path:
        """Return the run folder of an input of a run."""
        return located(self.record(run)["inputs"][name], run, self.root)

    def mix_of(self, run: RunFolder) -> str:
        """Return the name of the mix that a training run reads."""
        config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        return Path(config["core"]["manifest"]).parents[1].name

    def parent_of(self, run: TrainingRun) -> tuple[Path, int] | None:
        """Return the run that a run started from, and at which step; None: from first weights.

        Raises:
            InputError: it started from weights that no run of the graph has made.
        """
        if run.parent is None:
            return None
        inputs = self.record(run.folder)["inputs"]
        names = [name for name in self.training if name in inputs]
        if not names or run.parent.get("step") is None:
            raise InputError(
                f"{run.folder.path}: it started from weights that no run of the recipe has made; "
                "what they were trained on is not known"
            )
        return located(inputs[names[0]], run.folder, self.root), run.parent["step"]

    def mixes(self) -> Iterator[tuple[str, RunFolder, Path]]:
        """Yield each mix that is made: its asset, its run folder, the index of its tokens."""
        for asset in self.graph.recipe.mixes:
            for run in self.finished(asset):
                tokens = self.record(run)["inputs"]["tokens"]["digest"]
                if tokens in self._indexes:
                    yield asset, run, self._indexes[tokens].path

    def finished(self, asset: str) -> list[RunFolder]:
        """Return the finished runs of an asset; none where the recipe has no such asset."""
        return (
            [run for run in self.runs(asset) if run.finished] if asset in self.graph.nodes else []
        )

    def every(self) -> Iterator[TrainingRun | Untraced]:
        """Yield each training run that has an index, or why nothing can be said of it."""
        for asset in self.training:
            for run in self.runs(asset):
                try:
                    self.index_folder(run)
                    yield self.open(run)
                except InputError as error:
                    yield Untraced(run=run, why=str(error))

    def chosen(self, asset: str, version: str | None) -> RunFolder:
        """Return the run of the recipe as it stands, else the only one, else `version`.

        A version may also be one that the recipe has in a shared root.

        Raises:
            ConfigError: there is none, or several.
        """
        there = self.runs(asset)
        name = self.graph.recipe.name
        if version is not None:
            there += self._shared(asset)
        if not there:
            raise ConfigError(f"{name}: {asset} has not been run; olmo run {name} --select {asset}")
        versions = ", ".join(run.path.name for run in there)
        if version is not None:
            found = [run for run in there if run.path.name == version]
            if not found:
                raise ConfigError(f"{name}: {asset} has no version {version!r}; there: {versions}")
            return found[0]
        current = next(self.graph.runs(self.root, asset), None)
        if current is not None and current.config.is_file():
            return current
        if len(there) > 1:
            raise ConfigError(
                f"{name}: {asset} has {len(there)} versions, none of the recipe as it stands; "
                f"--version says which: {versions}"
            )
        return there[0]

    def _shared(self, asset: str) -> list[RunFolder]:
        """Return the recipe's finished runs of an asset in shared roots."""
        folders = [self.graph.folder(place, asset) for place in shared_roots(self.root)]
        found = [RunFolder(path) for folder in folders for path in sorted(folder.glob("*"))]
        return [run for run in found if run.finished and run.config.is_file()]

    @functools.cached_property
    def _indexes(self) -> dict[str, RunFolder]:
        """Return the finished indexes, by the digest of the tokens that each is of."""
        folder = self.graph.folder(self.root, "documents")
        found: dict[str, RunFolder] = {}
        for run in every_run(folder, self.root, *shared_roots(self.root)):
            if run.finished:
                found.setdefault(run.read_result()["inputs"]["tokens"]["digest"], run)
        return found

    @functools.cached_property
    def _open(self) -> Callable[[Path], TrainingRun]:
        return functools.lru_cache(maxsize=32)(self._opened)

    def _opened(self, path: Path) -> TrainingRun:
        run = RunFolder(path)
        manifest = self.input(run, self.mix_of(run)) / "manifest.json"
        return open_run(path, manifest=manifest, tokens=self.input(run, "tokens"))

    @functools.cached_property
    def open_index(self) -> Callable[[Path], BatchedDocumentIndex]:
        """Open an index by its run folder."""
        return functools.lru_cache(maxsize=8)(self._opened_index)

    def _opened_index(self, path: Path) -> BatchedDocumentIndex:
        return BatchedDocumentIndex(path, find_blocks(self.root, path))
