"""Checks of the runs and of the soup."""

import math

from assets.agreement import ANNEALED_SHARE
from assets.node import Check, Finished, Verdict
from assets.reporting.plots import LOSS, RATE
from olmo_core.run.folder import read_metrics

WINDOW = 10  # logged steps that a mean is taken over, first and last


def loss_fell(finished: Finished) -> Verdict:
    """The mean loss of the last steps lies below that of the first ones."""
    losses = [row[LOSS] for row in read_metrics(finished.folder.metrics) if LOSS in row]
    if len(losses) < 2:
        return Verdict(passed=False, description=f"{len(losses)} losses were logged")
    window = min(WINDOW, len(losses) // 2)
    first, last = sum(losses[:window]) / window, sum(losses[-window:]) / window
    return Verdict(
        passed=math.isfinite(last) and last < first,
        description=f"loss {first:.3f} → {last:.3f} nats per token",
        figures={"first": first, "last": last},
    )


def loss_is_finite(finished: Finished) -> Verdict:
    """No logged loss is NaN or infinite; annealing need not lower a loss that is another mix's."""
    losses = [row[LOSS] for row in read_metrics(finished.folder.metrics) if LOSS in row]
    bad = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    return Verdict(
        passed=bool(losses) and not bad,
        description=f"{len(losses)} losses, {len(bad)} not finite",
    )


def parent_is_stage1(finished: Finished) -> Verdict:
    """The weights that it started from are those that stage 1 ended with."""
    stage1 = finished.inputs["stage1"].read_result()["report"]["data"]["model_sha256"]
    parent = (finished.data["parent"] or {}).get("model_sha256")
    return Verdict(
        passed=parent == stage1,
        description=f"started from {str(parent)[:12]}; stage 1 ended with {stage1[:12]}",
    )


def annealed_to_zero(finished: Finished) -> Verdict:
    """Pass where the learning rate of the last step is a small part of the highest."""
    rates = [row[RATE] for row in read_metrics(finished.folder.metrics) if RATE in row]
    peak = max(rates, default=0.0)
    return Verdict(
        passed=peak > 0 and rates[-1] / peak < ANNEALED_SHARE,
        description=f"learning rate {peak:.3g} → {rates[-1]:.3g}" if rates else "none logged",
    )


def ingredients_differ(finished: Finished) -> Verdict:
    """The ingredients have one parent and read different batches from the first on."""
    data = {
        name: folder.read_result()["report"]["data"] for name, folder in finished.inputs.items()
    }
    parents = {(entry["parent"] or {}).get("model_sha256") for entry in data.values()}
    batches = {entry["first_batch_sha256"] for entry in data.values()}
    return Verdict(
        passed=len(parents) == 1 and None not in parents and len(batches) == len(data),
        description=f"{len(data)} ingredients: {len(parents)} parent, {len(batches)} first batches",
    )


def logits_agree(finished: Finished) -> Verdict:
    """transformers computes from each export what our model computes."""
    error = finished.numbers["max_relative_error"]
    tolerance = finished.node.config["parity_tolerance"]
    return Verdict(
        passed=error <= tolerance,
        description=f"largest relative error of logits {error:.2g}, at most {tolerance:g}",
        figures={"max_relative_error": error},
    )


CHECKS: dict[str, tuple[Check, ...]] = {
    "stage1": (
        Check(name="loss_fell", description="Training lowered the loss.", evaluate=loss_fell),
    ),
    "stage2": (
        Check(
            name="loss_is_finite",
            description="Every logged loss is a number.",
            evaluate=loss_is_finite,
        ),
        Check(
            name="parent_is_stage1",
            description="It started from stage 1's last weights.",
            evaluate=parent_is_stage1,
        ),
        Check(
            name="annealed_to_zero",
            description="The learning rate ended near zero.",
            evaluate=annealed_to_zero,
        ),
    ),
    "soup": (
        Check(
            name="ingredients_differ",
            description="One parent, different batches.",
            evaluate=ingredients_differ,
        ),
    ),
    "export": (
        Check(
            name="logits_agree",
            description="transformers and our model compute the same logits.",
            evaluate=logits_agree,
        ),
    ),
}
