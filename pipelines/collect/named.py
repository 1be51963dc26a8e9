"""Take named versions out, whatever they are: only with all that depends on them."""

from collections.abc import Collection, Mapping, Sequence

from assets.launcher import Launcher, Refused
from olmo_core.config.load import nearest
from olmo_core.errors import ConfigError, listed
from olmo_core.run.accepted import read_acceptances
from pipelines.collect.decisions import pins, releases
from pipelines.collect.mark import alive, readers_first
from pipelines.collect.records import Records


def named(
    records: Records,
    launcher: Launcher,
    names: Sequence[str],
    *,
    dependents: bool,
    released: bool,
) -> Mapping[str, str]:
    """Return named runs, each with why it goes, those that depend on others first.

    Args:
        records: Of the root.
        launcher: Knows what is at work.
        names: As in `demo/stage1/092d8a948985`.
        dependents: Take what depends on them, too.
        released: Take also what has been published.

    Raises:
        ConfigError: there is no such run.
        Refused: one is at work, was decided to stay, or has dependents that would stay.
    """
    for name in names:
        require_run(records, name)
    made_from = records.dependents(names)
    goes = {name: "named" for name in names}
    if made_from and not dependents:
        raise Refused(
            f"{listed(names)}: these {len(made_from)} were made from "
            f"{'them' if len(names) > 1 else 'it'}:\n  "
            + "\n  ".join(sorted(made_from))
            + "\nAdd --dependents and all of them go"
        )
    goes.update({name: "depends on what is named" for name in sorted(made_from)})
    mute = [run.name for run in records.runs.values() if run.mute and run.name not in goes]
    if mute:
        raise Refused(f"{listed(mute)}: cannot be read, and may depend on what is named")
    stays = _decided(records, released=released)
    for name in goes:
        run = records.runs[name]
        why = "a symbolic link leads to it" if run.linked else stays.get(name)
        if why := why or alive(run, launcher):
            raise Refused(f"{name}: {why}")
    for replay in records.replays:
        if (read := [name for name in records.read_by(replay) if name in goes]) and alive(
            replay, launcher
        ):
            raise Refused(f"{read[0]}: a replay at work reads it: {replay.name}")
    return {name: goes[name] for name in readers_first(records, goes)}


def require_run(records: Records, name: str) -> None:
    """Refuse a name that no run of the root has.

    Raises:
        ConfigError: the nearest one is named.
    """
    if name not in records.runs:
        raise ConfigError(
            f"{name[:200]!r}: no version of this root; expected RECIPE/ASSET/VERSION; "
            f"{nearest(name, records.runs)}"
        )


def _decided(records: Records, *, released: bool) -> dict[str, str]:
    """Return why people want runs to stay, and how they say otherwise."""
    root, found = records.root, dict[str, str]()
    for acceptance in read_acceptances(root).values():
        for run in records.by_fingerprint.get(acceptance.old["fingerprint"], ()):
            remedy = f"olmo accept {acceptance.recipe} {acceptance.asset} --revoke takes it back"
            found[run.name] = f"{acceptance}; {remedy}"
    for pin in pins(root):
        found.update({name: f"pinned {pin}; olmo unpin {name} first" for name in pin.runs})
    for release in () if released else releases(root):
        kept = records.closure(_here(records, release.runs))
        found.update(
            {name: f"released {release}; --released takes it all the same" for name in kept}
        )
    return found


def _here(records: Records, names: Collection[str]) -> list[str]:
    return [name for name in names if name in records.runs]
