"""Check an export before it is published: digests, equal logits, the model card's figures.

Run as `python -m olmo_core.release.verify EXPORT`, the run folder of an export. `--cards` names its
cards; without it they are those beside it in the same recipe's folder.
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from olmo_core.config.load import Tree, build, load
from olmo_core.config.release import ExportConfig
from olmo_core.errors import InputError, exit_codes
from olmo_core.release.card_facts import read_facts
from olmo_core.release.card_numbers import derived, numbers_of, of_the_author, recorded
from olmo_core.release.model_card import CARD, CardConfig, card
from olmo_core.release.parity import compare, require
from olmo_core.run.folder import RunFolder
from olmo_core.run.result import damaged_files

SHOWN_LINES = 5  # of a card that differs


def check_digests(folder: Path) -> str:
    """Return what was found in order: every file of a finished run is as it was written.

    Raises:
        InputError: names each file that is gone, changed or of no result.
    """
    run = RunFolder(folder)
    if not run.finished:
        raise InputError(f"{folder}: no finished run: result.json is missing or torn")
    files = run.read_result()["files"]
    wrong = damaged_files(run, every_byte=True)
    wrong += [
        f"{folder / name}: not of this result" for name in run.outputs() if str(name) not in files
    ]
    if wrong:
        raise InputError("\n".join(sorted(wrong)))
    return f"{len(files)} files are as they were written"


def check_parity(export: Path) -> Iterator[str]:
    """Compare each exported model with the run that it was made from; yield what was found.

    Raises:
        InputError: a run is gone, its weights are others now, or the logits differ.
    """
    written = load(export / "config.yaml")
    config = build(ExportConfig, written["config"], where="export")
    for model in RunFolder(export).read_result()["report"]["data"]["models"]:
        source = Path(str(written["inputs"][model["model"]]))
        if not (source / "model").is_dir():
            raise InputError(f"{source}: gone; {model['model']} cannot be compared with its run")
        found, _ = compare(config, source / "model", export / model["path"])
        require(found, model["model"], config.parity_tolerance)
        yield (
            f"{model['revision']}: logits differ by {found.max_relative_error:.1e} at most over "
            f"{found.tokens} tokens"
        )


def check_card(folder: Path) -> str:
    """Write the card anew from the runs that it was made from, compare, and find every number.

    Raises:
        InputError: names a run that is gone, the first lines that are not what the runs say, or
            the numbers that stand in no run and follow from none.
    """
    written = load(folder / "config.yaml")
    assert isinstance(written["inputs"], Tree)
    inputs = {name: Path(str(path)) for name, path in written["inputs"].items()}
    for path in inputs.values():
        if not RunFolder(path).finished:
            raise InputError(
                f"{path}: no finished run is there; {folder / CARD} cannot be compared with it"
            )
    facts = read_facts(inputs)
    expected = card(build(CardConfig, written["config"], where="model_card"), facts)
    found = (folder / CARD).read_text(encoding="utf-8")
    if found != expected:
        lines = difflib.unified_diff(
            expected.splitlines(), found.splitlines(), "what the runs say", "what the card says",
            lineterm="", n=0,
        )  # fmt: skip
        shown = [line for line in lines if not line.startswith("@@")][: 2 + 2 * SHOWN_LINES]
        raise InputError("\n".join([f"{folder / CARD}: not what the runs say", *shown]))
    beside = [*derived(facts), *of_the_author(written["config"])]
    if lacking := recorded(inputs.values(), beside).lacks(found):
        raise InputError(f"{folder / CARD}: no run has these numbers: {' '.join(lacking)}")
    numbers = len(numbers_of(found))
    return f"every line of {folder / CARD} is what the runs say; its {numbers} numbers are theirs"


def cards_of(export: Path) -> list[Path]:
    """Return the finished model cards of an export, in the folder of its recipe."""
    found: list[Path] = []
    for folder in sorted((export.parent.parent / "model_card").glob("*")):
        if RunFolder(folder).finished:
            inputs = load(folder / "config.yaml")["inputs"]
            if Path(str(inputs["export"])).resolve() == export.resolve():
                found.append(folder)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is in order, line by line; end with an error at what is not."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.release.verify", description="Check an export and its cards."
    )
    parser.add_argument("export", type=Path, metavar="EXPORT", help="run folder of an export")
    parser.add_argument(
        "--cards", type=Path, metavar="CARD", nargs="*",
        help="run folders of its model cards, or none; default: those beside it",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    export = given.export.absolute()
    with exit_codes():
        print(f"digests: {check_digests(export)}", flush=True)
        for said in check_parity(export):
            print(f"parity: {said}", flush=True)
        cards = cards_of(export) if given.cards is None else given.cards
        for folder in cards:
            check_digests(folder)
            print(f"card: {check_card(folder)}", flush=True)
        if not cards:
            print("card: none has been made of this export", file=sys.stderr)


if __name__ == "__main__":
    main()
