"""Which models a training run has gone into: its own, those trained from it, soups, revisions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.runs import Lineage
from assets.reuse import located
from olmo_core.errors import InputError
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.visits import DocumentInRun
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The steps of one run that weights have been through."""

    run: TrainingRun
    up_to: int  # its last step that counts


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """What a model was averaged from; of one that was trained, the model itself."""

    label: str
    weight: float
    trained: Sequence[Trained]  # its own run, then its parents', as far as they can be traced
    unknown: str | None  # why what it was trained on before cannot be


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How much of a document some weights were trained on, their parents' training included."""

    tokens: int  # each as often as it was
    times: float  # that the whole document was, on average over its tokens

    @classmethod
    def of(cls, parts: Sequence[tuple[Sequence[DocumentInRun], int]]) -> "Exposure":
        """Add up what runs have seen of a document, each up to a step."""
        trained = [sum(one.trained_tokens(up_to) for one in found) for found, up_to in parts]
        whole = [sum(one.tokens for one in found) for found, _ in parts]
        return cls(
            tokens=sum(trained),
            times=sum(some / of for some, of in zip(trained, whole, strict=True)),
        )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that a recipe has made: a training run's end, or a soup."""

    name: str
    run: RunFolder
    ingredients: Sequence[Ingredient]
    revisions: Sequence[str]  # of the exports that hold these weights

    def exposures(self, found: Mapping[Path, Sequence[DocumentInRun]]) -> dict[str, Exposure]:
        """Return how much of a document each ingredient was trained on, by its label.

        Args:
            found: What each run has seen of the document, a part per place; another has seen none.
        """
        return {
            each.label: Exposure.of(
                [
                    (found[part.run.folder.path], part.up_to)
                    for part in each.trained
                    if part.run.folder.path in found
                ]
            )
            for each in self.ingredients
            if each.weight
        }


def trained_by(lineage: Lineage, path: Path, up_to: int) -> Iterator[Trained]:
    """Yield the runs that weights of a run at a step have been through: it comes first.

    Raises:
        InputError: what one of them has read, or what it started from, is not known.
    """
    run = lineage.open(RunFolder(path))
    lineage.index_folder(run.folder)
    yield Trained(run=run, up_to=up_to)
    parent = lineage.parent_of(run)
    if parent is not None:
        yield from trained_by(lineage, *parent)


def souped(lineage: Lineage, soup: RunFolder) -> list[tuple[str, Path, int, float]]:
    """Return what a soup is of: asset, run folder, last step and weight of each ingredient."""
    result = soup.read_result()
    data = result["report"]["data"]
    return [
        (
            parent["model"],
            located(result["inputs"][parent["model"]], soup, lineage.root),
            parent["step"],
            weight,
        )
        for parent, weight in zip(data["parents"], data["weights"], strict=True)
    ]


def models(lineage: Lineage, opened: Sequence[TrainingRun]) -> list[Model]:
    """Return the models that were made of these runs, in the graph's order.

    Args:
        lineage: The recipe's.
        opened: Its training runs.
    """
    revisions = _revisions(lineage)
    made = [
        Model(
            name=run.name,
            run=run.folder,
            ingredients=[_ingredient(lineage, run.label, run.folder.path, run.last_step)],
            revisions=revisions.get(run.folder.path, []),
        )
        for run in opened
    ]
    for soup in lineage.finished("soup"):
        ingredients = [
            _ingredient(lineage, f"{name}/{path.name}", path, step, weight)
            for name, path, step, weight in souped(lineage, soup)
        ]
        names = revisions.get(soup.path, [])
        made.append(Model(name="soup", run=soup, ingredients=ingredients, revisions=names))
    return made


def _ingredient(
    lineage: Lineage, label: str, path: Path, step: int, weight: float = 1.0
) -> Ingredient:
    trained: list[Trained] = []
    unknown = None
    try:
        trained.extend(trained_by(lineage, path, step))
    except InputError as error:
        unknown = str(error)
    return Ingredient(label=label, weight=weight, trained=trained, unknown=unknown)


def _revisions(lineage: Lineage) -> dict[Path, list[str]]:
    """Return the exported revisions of each model, by its run folder."""
    found: dict[Path, list[str]] = {}
    for export in lineage.finished("export"):
        result = export.read_result()
        for model in result["report"]["data"]["models"]:
            path = located(result["inputs"][model["model"]], export, lineage.root)
            names = found.setdefault(path, [])
            if model["revision"] not in names:
                names.append(model["revision"])
    return found
