"""Checks of the evaluations. What a model is worth is shown, not enforced: these do not block."""

from collections.abc import Callable

from assets.node import Check, Finished, Verdict
from olmo_core.evals.results import leaderboard_rows

UNIGRAM = "unigram"
LEAST_GAIN = 0.15  # of bits per byte against unigram frequencies, by the end of stage 1


def every_model_on_every_task(finished: Finished) -> Verdict:
    """All exported models have the same figures."""
    exported = finished.inputs["export"].read_result()["report"]["data"]["models"]
    figures: dict[str, set[tuple[str, str]]] = {entry["model"]: set() for entry in exported}
    for row in leaderboard_rows(finished.folder.path):
        figures.setdefault(row["model"], set()).add((row["task"], row["metric"]))
    models = {name: found for name, found in figures.items() if name != UNIGRAM}
    everything = set[tuple[str, str]]().union(*models.values())
    lacking = [name for name, found in models.items() if found != everything]
    return Verdict(
        passed=bool(everything) and not lacking,
        description=f"{len(models)} models, {len(everything)} figures each"
        + (f"; lacking some: {', '.join(lacking)}" if lacking else ""),
    )


def learned_more_than_frequencies(finished: Finished) -> Verdict:
    """Stage 1 needs fewer bits a byte than the token frequencies of what it was trained on."""
    stage1, unigram = (_bits_per_byte(finished, model) for model in ("stage1", UNIGRAM))
    gain = 1 - stage1[""] / unigram[""]
    return Verdict(
        passed=gain >= LEAST_GAIN,
        description=f"{stage1['']:.3f} bits per byte, {gain:.1%} below unigram frequencies "
        f"({unigram['']:.3f})",
        figures={"stage1": stage1[""], "unigram": unigram[""], "gain": gain},
    )


def soup_is_no_worse(sources: tuple[str, ...]) -> Callable[[Finished], Verdict]:
    """Over the domains of stage 2's sources, the soup needs no more bits a byte than stage 1."""

    def evaluate(finished: Finished) -> Verdict:
        stage1, soup = (_bits_per_byte(finished, model) for model in ("stage1", "soup"))
        known = [source for source in sources if source in soup]
        if not known:
            return Verdict(passed=False, description=f"no held-out domain of {', '.join(sources)}")
        before, after = (sum(bits[s] for s in known) / len(known) for bits in (stage1, soup))
        return Verdict(
            passed=after <= before,
            description=f"mean bits per byte over {', '.join(known)}: stage 1 {before:.3f}, "
            f"soup {after:.3f}",
            figures={"stage1": before, "soup": after},
        )

    return evaluate


def _bits_per_byte(finished: Finished, model: str) -> dict[str, float]:
    """Bits per byte by source; the empty name is all of them."""
    return {
        row["task"].partition("/")[2]: row["value"]
        for row in leaderboard_rows(finished.folder.path)
        if row["model"] == model and row["metric"] == "bits_per_byte"
    }


EVERY_MODEL = Check(
    name="every_model_on_every_task",
    description="All models have all figures.",
    evaluate=every_model_on_every_task,
)


def perplexity_checks(stage2_sources: tuple[str, ...]) -> tuple[Check, ...]:
    """The checks of `perplexity`, given the sources that stage 2 reads; none without a stage 2."""
    learned = Check(
        name="learned_more_than_frequencies",
        description=f"Stage 1 lies {LEAST_GAIN:.0%} below unigram frequencies.",
        evaluate=learned_more_than_frequencies,
        blocking=False,
    )
    no_worse = Check(
        name="soup_is_no_worse",
        description="Over stage 2's sources the soup needs no more bits than stage 1.",
        evaluate=soup_is_no_worse(stage2_sources),
        blocking=False,
    )
    return (EVERY_MODEL, learned, *([no_worse] if stage2_sources else []))
