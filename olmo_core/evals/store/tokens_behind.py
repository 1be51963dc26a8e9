"""Count the tokens behind a model's weights: those of its run, and of all that it began from.

A checkpoint's own counter says what its run has read; what the run began from is in its files.
Everything here is read from run folders, and believed where digests agree. Free of torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olmo_core.checkpoint.layout import CHECKPOINTS, MANIFEST, list_checkpoints
from olmo_core.config.load import load
from olmo_core.files import read_json, sha256_file
from olmo_core.run.folder import RunFolder

# Of each run the tokens that its own steps have read: where lines of descent meet, one run is one.
Read = dict[Path, int]


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """How a training run began, and where its counter of tokens stands by now."""

    tokens: int  # of the counter, at the run's end or at its last checkpoint
    parent: Mapping[str, Any] | None  # what it began from, by digests; None: first weights
    continues: bool  # its counter went on from that of the parent


def tokens_before(run: Path) -> int | None:
    """Return the tokens behind a model that its run's own counter leaves out.

    0 for a run from first weights; for one from another's checkpoint what is behind that, also
    where only weights were taken up. A soup has what any of its ingredients has read, of a run that
    several of them began from once; ingredients of weight 0 count for nothing.

    Args:
        run: The run folder of a training or a soup, `<root>/<recipe>/<asset>/<version>`.

    Returns:
        Tokens, to be added to those of any checkpoint of the run; None where they are not known:
        it began from a model of others, or from a run that is not here any more.
    """
    try:
        counted = _result_data(run).get("tokens") if _is_soup(run) else _beginning(run).tokens
        read = None if counted is None else _read_by(run, counted)
    except (OSError, ValueError, KeyError, TypeError):  # gone, or damaged
        return None
    return None if read is None or counted is None else sum(read.values()) - counted


def _read_by(run: Path, counted: int) -> Read | None:
    """Return what was read until a run's counter stood at so many tokens."""
    if _is_soup(run):
        return _read_by_soup(run)
    began = _beginning(run)
    if began.parent is None:
        return {run: counted}
    parent = next(_parents(run, began.parent), None)
    before = None if parent is None else _read_by(*parent)
    if parent is None or before is None:
        return None
    return {**before, run: counted - (parent[1] if began.continues else 0)}


def _read_by_soup(run: Path) -> Read | None:
    data, inputs = _result_data(run), inputs_of(run)
    read: Read = {}
    for ingredient, share in zip(data["parents"], data["weights"], strict=True):
        if not share:
            continue
        part = _read_by(inputs[ingredient["model"]], ingredient["tokens"])
        if part is None:
            return None
        read |= {each: max(tokens, read.get(each, 0)) for each, tokens in part.items()}
    return read


def _is_soup(run: Path) -> bool:
    return "weights" in _result_data(run)


def _beginning(run: Path) -> Beginning:
    """Return how a training run began.

    Raises:
        KeyError: it has neither a result nor a checkpoint that would say so.
    """
    facts: Mapping[str, Any] = _result_data(run)
    origin = facts.get("first_step")
    if origin is None:
        facts = next((each.read_train() for each in reversed(list_checkpoints(run))), {})
        origin = facts["origin"]
    return Beginning(tokens=facts["tokens"], parent=facts["parent"], continues=origin > 0)


def _parents(run: Path, parent: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    """Yield runs that are what a run began from, by its digests, with their counter there."""
    for candidate in dict.fromkeys([*inputs_of(run).values(), *_loaded(run)]):
        folder = candidate / CHECKPOINTS / f"step{parent.get('step')}"
        digest = parent.get("manifest_sha256")
        manifest = folder / MANIFEST
        if digest is not None and manifest.is_file() and sha256_file(manifest) == digest:
            yield candidate, int(read_json(folder / "train.json")["tokens"])
        weights, facts = parent.get("model_sha256"), _result_data(candidate)
        if weights is not None and facts.get("model_sha256") == weights:
            yield candidate, int(facts["tokens"])


def inputs_of(run: Path) -> dict[str, Path]:
    """Return where a job's inputs lie, by name; none of one that was started by hand."""
    launch = RunFolder(run).read(RunFolder(run).launch) or {}
    # <root>/<recipe>/<asset>[/<partition>]/<version>
    own = run.parents[2 if launch.get("partition") is None else 3]
    return {
        name: (own if entry["root"] == "own" else Path(entry["root"])) / entry["path"]
        for name, entry in launch.get("inputs", {}).items()
    }


def _loaded(run: Path) -> list[Path]:
    """Return the run folder that `load_path` names, or names a part of, if it is on this machine.

    A model folder's weights are those of the run or soup that holds it.
    """
    config = RunFolder(run).config
    location = load(config).get("load_path") if config.is_file() else None
    if not location or "://" in str(location):
        return []
    path = Path(str(location)).expanduser()
    return [path, path.parent, path.parent.parent]


def _result_data(run: Path) -> Mapping[str, Any]:
    folder = RunFolder(run)
    return folder.read_result()["report"]["data"] if folder.finished else {}
