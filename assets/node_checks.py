"""Checks that every asset has: what it read is still what it was made from."""

from assets.node import Check, Finished, Verdict


def inputs_unchanged(finished: Finished) -> Verdict:
    """Whether each input's result still names the digest of content that was read from it."""
    changed: list[str] = []
    for name, folder in finished.inputs.items():
        recorded = finished.result["inputs"][name]["digest"]
        if not folder.finished:
            changed.append(f"{name}: {folder.path} is gone")
        elif folder.read_result()["digest"] != recorded:
            changed.append(f"{name}: digest {recorded[:12]} was read, now another stands there")
    if changed:
        return Verdict(passed=False, description="; ".join(changed))
    return Verdict(passed=True, description=f"{len(finished.inputs)} inputs are what was read")


INPUTS_UNCHANGED = Check(
    name="inputs_unchanged",
    description="What this was made from has not changed underneath.",
    evaluate=inputs_unchanged,
)
