"""Which models a training run has gone into: its own, those trained from it, soups, revisions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets.lineage.runs import Lineage
from assets.reuse import located
from olmo_core.lineage.run import TrainingRun
from olmo_core.lineage.visits import DocumentInRun
from olmo_core.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The steps of one run that a model's weights have been through."""

    run: Path
    up_to: int  # its last step that counts


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """What a model was averaged from; of one that was trained, the model itself."""

    label: str
    weight: float
    trained: Sequence[Trained]  # its own run first, then its parents'


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
                [(found[part.run], part.up_to) for part in each.trained if part.run in found]
            )
            for each in self.ingredients
            if each.weight
        }


def models(lineage: Lineage, opened: Sequence[TrainingRun]) -> list[Model]:
    """Return the models that were made of these runs, in the graph's order.

    Args:
        lineage: The recipe's.
        opened: Its training runs.
    """
    runs = {run.folder.path: run for run in opened}
    revisions = _revisions(lineage)

    def trained(path: Path, up_to: int) -> Iterator[Trained]:
        """Yield what weights of a run at a step have been through, the latest first."""
        run = runs.get(path)
        if run is None:
            return
        yield Trained(run=path, up_to=up_to)
        parent = lineage.parent_of(run)
        if parent is not None:
            yield from trained(*parent)

    made = [
        Model(
            name=run.name,
            run=run.folder,
            ingredients=[
                Ingredient(label=run.label, weight=1.0, trained=[*trained(path, run.last_step)])
            ],
            revisions=revisions.get(path, []),
        )
        for path, run in runs.items()
    ]
    for soup in lineage.finished("soup"):
        result = soup.read_result()
        data = result["report"]["data"]
        ingredients: list[Ingredient] = []
        for parent, weight in zip(data["parents"], data["weights"], strict=True):
            path = located(result["inputs"][parent["model"]], soup, lineage.root)
            ingredients.append(
                Ingredient(
                    label=f"{parent['model']}/{path.name}",
                    weight=weight,
                    trained=[*trained(path, parent["step"])],
                )
            )
        made.append(
            Model(
                name="soup",
                run=soup,
                ingredients=ingredients,
                revisions=revisions.get(soup.path, []),
            )
        )
    return made


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
