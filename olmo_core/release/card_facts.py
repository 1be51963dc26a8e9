"""What a model card is written from: the finished runs behind a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.config.load import load
from olmo_core.energy import Use, run_uses
from olmo_core.evals.results import connect, query
from olmo_core.release.tokens_read import tokens_read
from olmo_core.run.folder import RunFolder

SOUP = "soup"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The reports of the runs behind a model, by the assets' names."""

    results: Mapping[str, Mapping[str, Any]]  # result.json
    launches: Mapping[str, Mapping[str, Any]]  # launch.json; empty where a run was made by hand
    configs: Mapping[str, Mapping[str, Any]]  # training configuration of each trained model
    mixes: Mapping[str, str]  # trained model -> the mix that it has read
    read: Mapping[str, Mapping[str, int]]  # trained model -> source -> tokens read
    uses: Mapping[str, Sequence[Use]]  # trained model -> what each attempt at it took
    final: str  # the model of `main`: the soup, or stage 1 where there is no stage 2
    leaderboard: str  # Markdown
    rows: Sequence[Mapping[str, Any]]  # of evaluations

    @property
    def export(self) -> Mapping[str, Any]:
        """Return the report of the export."""
        return self.results["export"]["report"]

    @property
    def soup(self) -> Mapping[str, Any] | None:
        """Return the report of the soup, if `main` is one."""
        return self.results[SOUP]["report"] if SOUP in self.results else None

    @property
    def final_rows(self) -> list[Mapping[str, Any]]:
        """Return the evaluations of the model of `main`."""
        return [row for row in self.rows if row["model"] == self.final]

    @property
    def repository(self) -> str:
        """Return ORGANISATION/NAME."""
        return self.export["data"]["repository"]

    def tokens_in_all(self, model: str) -> int | None:
        """Return the tokens behind a model: its own and those of what it was made from.

        Stage 1 counts once, an ingredient that has weight 0 in the soup not at all.
        """
        own = {each["model"]: each["tokens"] for each in self.export["data"]["models"]}
        parts = {model: own[model]}
        if model == SOUP and self.soup is not None:
            rows = self.soup["tables"]["ingredients"]
            parts = {row["model"]: row["tokens"] for row in rows if row["weight"]}
        tokens = {"stage1": own["stage1"], **parts}.values()
        return None if None in tokens else sum(tokens)


def read_facts(inputs: Mapping[str, Path]) -> Facts:
    """Read the results of all inputs, and the configuration of each model that was trained."""
    results = {name: RunFolder(path).read_result() for name, path in inputs.items()}
    launches = {
        name: RunFolder(path).read(RunFolder(path).launch) or {} for name, path in inputs.items()
    }
    models = [model["model"] for model in results["export"]["report"]["data"]["models"]]
    trained = [name for name in models if name in inputs and name != SOUP]
    with connect(inputs["leaderboard"]) as connection:
        rows = query(connection, "select * from rows")
    mixes = {
        model: next(name for name in results[model]["inputs"] if _is_mix(inputs.get(name)))
        for model in trained
    }
    return Facts(
        results=results,
        launches=launches,
        configs={name: load(inputs[name] / "model" / "config.yaml") for name in trained},
        mixes=mixes,
        read={
            model: tokens_read(inputs[mix], results[model]["report"]["data"])
            for model, mix in mixes.items()
        },
        uses={model: run_uses(RunFolder(inputs[model])) for model in trained},
        final=models[-1],
        leaderboard=(inputs["leaderboard"] / "leaderboard.md").read_text(encoding="utf-8"),
        rows=rows,
    )


def _is_mix(folder: Path | None) -> bool:
    return folder is not None and (folder / "manifest.json").is_file()
