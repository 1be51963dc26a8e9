"""`olmo trace model`: all that a model comes from, as a tree, or as PROV-JSON."""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.tree import Tree

from assets.lineage.ancestors import Ancestor
from assets.lineage.descent import Descent, trace_model
from assets.lineage.recorded import RawFile, ingredient_weights, raw_files, seeds
from assets.lineage.runs import Lineage
from assets.reporting.texts import amount
from pipelines.cli.terminal import plain_line, terminal

SHOWN_FILES = 5  # of a source; --json has all
DIGITS = 12  # of a digest or a commit


def print_model(recipe: str, model: str | None, *, as_json: bool) -> None:
    """Print the descent of a model.

    Raises:
        ConfigError: no such recipe or model.
        InputError: a file of one of its runs is malformed, or a training says of none of its
            checkpoints what it started from.
    """
    descent = trace_model(Lineage(recipe), model)
    if as_json:
        from assets.lineage.provenance import prov_document

        print(prov_document(descent).serialize(indent=1))
        return
    console = terminal()
    console.print(_tree(descent), soft_wrap=False)  # which would cut long lines of a tree
    for line in _lines(descent):
        console.print(plain_line(line))
    _print_doubts(console, descent)


def _tree(descent: Descent) -> Tree:
    top = Tree(plain_line(f"{descent.label}{_facts(descent, descent.model)}"), guide_style="dim")
    told = {descent.model.run.path}
    _add_inputs(top, descent, descent.model, told)
    return top


def _add_inputs(branch: Tree, descent: Descent, run: Ancestor, told: set[Path]) -> None:
    weights = ingredient_weights(run)
    for each in run.inputs:
        weight = f" × {weights[each.name]:.4g}" if each.name in weights else ""
        if each.folder in descent.missing:
            branch.add(f"[red]{plain_line(each.relative)}{weight}: gone[/]")
            continue
        source = descent.runs[each.folder]
        label = plain_line(f"{source.relative}{weight}")
        if each.folder in told:
            branch.add(f"[dim]{label}: above[/]")
            continue
        told.add(each.folder)
        below = branch.add(label + plain_line(_facts(descent, source)))
        _add_inputs(below, descent, source, told)
        _add_raw(below, raw_files(source))


def _facts(descent: Descent, run: Ancestor) -> str:
    """Return what a person asks of a run, after its name."""
    said: list[str] = []
    if "order" in run.data:
        up_to = descent.step if run is descent.model else None
        of = "" if up_to is None else f"step {up_to:,} of "
        said.append(f"{of}{run.data['step']:,} steps, {amount(run.data['tokens'])} tokens")
    if (parent := descent.parent(run)) is not None:
        of = Path(parent.place).name if parent.source is None else parent.source.name
        said.append(f"from {of}" + ("" if parent.step is None else f"@step{parent.step}"))
    said += [f"{key} {value}" for key, value in seeds(run).items()]
    if run.result is None:
        said.append("not finished")
    else:
        made = datetime.datetime.fromtimestamp(run.result["finished"], datetime.UTC)
        said.append(f"{made:%Y-%m-%d}")
    if not run.identity:
        said.append("started by hand: what it was made from is not recorded")
    return f" ({', '.join(said)})"


def _add_raw(branch: Tree, files: Sequence[RawFile]) -> None:
    """Add what no asset made, by source."""
    for source in dict.fromkeys(each.source for each in files):
        of = [each for each in files if each.source == source]
        below = branch.add(plain_line(f"source {source}"))
        for each in of[:SHOWN_FILES]:
            below.add(plain_line(_raw_line(each)))
        if len(of) > SHOWN_FILES:
            below.add(f"and {len(of) - SHOWN_FILES:,} more: --json")


def _raw_line(raw: RawFile) -> str:
    size = "" if raw.bytes is None else f" {raw.bytes:,} bytes"
    digest = raw.sha256 or raw.parts_sha256
    part = "" if raw.sha256 else "of parts "
    listed = "list " if raw.is_list else ""
    return f"{listed}{raw.place}{size}" + (f" sha256 {part}{digest[:DIGITS]}" if digest else "")


def _lines(descent: Descent) -> Iterator[str]:
    """Yield what many runs have in common, and what has come of the model."""
    runs = descent.runs.values()
    for title, values in (
        ("code", [_code(run) for run in runs]),
        ("packages", [_packages(run) for run in runs]),
        ("made on", [str(run.launch.get("host", "an unknown host")) for run in runs]),
    ):
        for value in dict.fromkeys(values):
            count = values.count(value)
            whose = "" if count == len(values) else f" ({count} of {len(values)} runs)"
            yield f"{title}: {value}{whose}"
    for revision in descent.revisions:
        yield f"exported as {revision.name}: {revision.folder}, sha256 {revision.sha256[:DIGITS]}"


def _code(run: Ancestor) -> str:
    state = run.launch.get("code")
    if not state:
        return "not recorded"
    changes = f", with changes of {len(state['diff']):,} characters" if state["dirty"] else ""
    return f"commit {str(state['commit'])[:DIGITS]}{changes}"


def _packages(run: Ancestor) -> str:
    versions = run.launch.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"


def _print_doubts(console: Console, descent: Descent) -> None:
    """Print what a reader must know before relying on the tree: acceptances, changes, gaps."""
    for path, acceptances in descent.accepted.items():
        for each in acceptances:
            console.print(plain_line(f"{descent.runs[path].relative}: {each}"), style="yellow")
    for (path, name), digest in descent.changed.items():
        reader = descent.runs[path].relative
        line = f"{reader}: read other bits of {name} than stand there now ({digest[:DIGITS]})"
        console.print(plain_line(line), style="red")
    for path, missing in descent.missing.items():
        line = f"{path}: gone, read by {', '.join(missing.readers)}; what it was made from is "
        console.print(plain_line(f"{line}not known"), style="red")
