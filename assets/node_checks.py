"""Checks that every asset has: what it read is still what it was made from."""

from assets.node import Check, Finished, Verdict
from olmo_core.run.result import damaged_files


def inputs_unchanged(finished: Finished) -> Verdict:
    """Whether each input's result names the digest that was read, and its files are as written."""
    changed: list[str] = []
    for name, folder in finished.inputs.items():
        recorded = finished.result["inputs"][name]["digest"]
        if not folder.finished:
            changed.append(f"{name}: {folder.path} is gone")
        elif folder.read_result()["digest"] != recorded:
            changed.append(f"{name}: digest {recorded[:12]} was read, now another stands there")
        else:
            changed += damaged_files(folder)
    if changed:
        return Verdict(passed=False, description="; ".join(changed))
    return Verdict(passed=True, description=f"{len(finished.inputs)} inputs are what was read")


INPUTS_UNCHANGED = Check(
    name="inputs_unchanged",
    description="What this was made from has not changed underneath.",
    evaluate=inputs_unchanged,
)
