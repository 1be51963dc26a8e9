"""Checks of the runs and of the soup."""

import math

from assets.agreement import ANNEALED_SHARE
from assets.node import Finished, Verdict, check
from assets.reporting.plots import LOSS, RATE
from olmo_core.run.folder import read_metrics

WINDOW = 10  # logged steps that a mean is taken over, first and last


@check("Training lowered the loss.")
def loss_fell(finished: Finished) -> Verdict:
    """Compare the mean loss of the last steps with that of the first ones."""
    losses = _logged(finished, LOSS)
    if len(losses) < 2:
        return Verdict(False, f"{len(losses)} losses were logged")
    window = min(WINDOW, len(losses) // 2)
    first, last = sum(losses[:window]) / window, sum(losses[-window:]) / window
    said = f"loss {first:.3f} → {last:.3f} nats per token"
    return Verdict(math.isfinite(last) and last < first, said, {"first": first, "last": last})


@check("Every logged loss is a number.")
def loss_is_finite(finished: Finished) -> Verdict:
    """Look at each loss: annealing need not lower one that is another mix's."""
    losses = _logged(finished, LOSS)
    bad = [loss for loss in losses if not math.isfinite(loss)]
    return Verdict(bool(losses) and not bad, f"{len(losses)} losses, {len(bad)} not finite")


@check("It started from stage 1's last weights.")
def parent_is_stage1(finished: Finished) -> Verdict:
    stage1 = finished.input_data("stage1")["model_sha256"]
    parent = (finished.data["parent"] or {}).get("model_sha256")
    said = f"started from {str(parent)[:12]}; stage 1 ended with {stage1[:12]}"
    return Verdict(parent == stage1, said)


@check("The learning rate ended near zero.")
def annealed_to_zero(finished: Finished) -> Verdict:
    """Compare the rate of the last step with the highest."""
    rates = _logged(finished, RATE)
    if not rates:
        return Verdict(False, "none logged")
    peak, last = max(rates), rates[-1]
    passed = peak > 0 and last / peak < ANNEALED_SHARE
    return Verdict(passed, f"learning rate {peak:.3g} → {last:.3g}")


@check("One parent, different batches.")
def ingredients_differ(finished: Finished) -> Verdict:
    """Compare the ingredients: one parent, and different batches from the first on."""
    data = [
        finished.input_data(name)
        for name in finished.inputs
        if name not in ("held_out", "tokenizer")
    ]
    parents = {(entry["parent"] or {}).get("model_sha256") for entry in data}
    batches = {entry["first_batch_sha256"] for entry in data}
    passed = len(parents) == 1 and None not in parents and len(batches) == len(data)
    said = f"{len(data)} ingredients: {len(parents)} parent, {len(batches)} first batches"
    return Verdict(passed, said)


@check("transformers and our model compute the same logits.")
def logits_agree(finished: Finished) -> Verdict:
    error = finished.result["report"]["numbers"]["max_relative_error"]
    tolerance = finished.node.config["parity_tolerance"]
    said = f"largest relative error of logits {error:.2g}, at most {tolerance:g}"
    return Verdict(error <= tolerance, said, {"max_relative_error": error})


def _logged(finished: Finished, key: str) -> list[float]:
    """Return a figure of all steps that have logged it."""
    return [row[key] for row in read_metrics(finished.folder.metrics) if key in row]
