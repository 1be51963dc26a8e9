"""Checks of the evaluations. What a model is worth is shown, not enforced: these do not block."""

from assets.node import Check, Finished, Verdict, check
from olmo_core.evals.results import leaderboard_rows

UNIGRAM = "unigram"
LEAST_GAIN = 0.15  # of bits per byte against unigram frequencies, by the end of stage 1


@check("All models have all figures.")
def every_model_on_every_task(finished: Finished) -> Verdict:
    figures: dict[str, set[tuple[str, str]]] = {
        entry["model"]: set() for entry in finished.input_data("export")["models"]
    }
    for row in leaderboard_rows(finished.folder.path):
        figures.setdefault(row["model"], set()).add((row["task"], row["metric"]))
    models = {name: found for name, found in figures.items() if name != UNIGRAM}
    everything = set[tuple[str, str]]().union(*models.values())
    lacking = [
        name
        for name, found in models.items()
        if any(not _left_out(finished, name, *figure) for figure in everything - found)
    ]
    # A task that no model could be scored on is in nobody's figures.
    not_scored = finished.data.get("not_scored", ())
    said = f"{len(models)} models, {len(everything)} figures each"
    said += f"; lacking some: {', '.join(lacking)}" if lacking else ""
    said += "".join(f"; {row['model']}, not scored: {row['why']}" for row in not_scored)
    return Verdict(bool(everything) and not lacking and not not_scored, said)


def perplexity_checks(
    name: str, stage2_sources: tuple[str, ...], *, ingredients: tuple[str, ...]
) -> tuple[Check, ...]:
    """Return the checks of `perplexity`.

    Args:
        name: Of the set of texts that they are about.
        stage2_sources: Sources of that set that stage 2 reads; none: it reads no such.
        ingredients: The runs that the soup is of; none: there is no soup.
    """

    @check(f"Stage 1 lies {LEAST_GAIN:.0%} below unigram frequencies.", blocking=False)
    def learned_more_than_frequencies(finished: Finished) -> Verdict:
        """Compare with the token frequencies of what stage 1 was trained on."""
        figures_of = _figures(finished, name, "bits_per_byte")
        stage1, unigram = (figures_of[model][""] for model in ("stage1", UNIGRAM))
        gain = 1 - stage1 / unigram
        said = f"{stage1:.3f} bits per byte, {gain:.1%} below unigram frequencies ({unigram:.3f})"
        figures = {"stage1": stage1, "unigram": unigram, "gain": gain}
        return Verdict(gain >= LEAST_GAIN, said, figures)

    @check("Over stage 2's sources the soup needs no more bits than stage 1.", blocking=False)
    def soup_is_no_worse(finished: Finished) -> Verdict:
        figures_of = _figures(finished, name, "bits_per_byte")
        stage1, soup = (figures_of[model] for model in ("stage1", "soup"))
        known = [source for source in stage2_sources if source in soup]
        if not known:
            return Verdict(False, f"no held-out domain of {', '.join(stage2_sources)}")
        before, after = (sum(bits[s] for s in known) / len(known) for bits in (stage1, soup))
        said = f"mean bits per byte over {', '.join(known)}: stage 1 {before:.3f}, soup {after:.3f}"
        return Verdict(after <= before, said, {"stage1": before, "soup": after})

    @check("The soup's loss is at most that of its best ingredient.", blocking=False)
    def soup_is_as_good_as_its_best(finished: Finished) -> Verdict:
        """Compare with every ingredient of the recipe, those of weight 0 too."""
        figures_of = _figures(finished, name, "loss")
        losses = {model: figures_of[model][""] for model in ingredients}
        soup = figures_of["soup"][""]
        best = min(losses, key=lambda model: losses[model])
        said = f"soup {soup:.4f} nats per token, best of {len(losses)} ingredients "
        said += f"{losses[best]:.4f} ({best}), on {name}"
        return Verdict(soup <= losses[best], said, {"soup": soup, best: losses[best]})

    return (
        every_model_on_every_task,
        learned_more_than_frequencies,
        *((soup_is_no_worse,) if stage2_sources else ()),
        *((soup_is_as_good_as_its_best,) if ingredients else ()),
    )


def _left_out(finished: Finished, model: str, task: str, metric: str) -> bool:
    """Return whether the report says why a model has no such figure: a domain of the task."""
    return any(
        line["model"] == model
        and line["metric"] == metric.removeprefix("macro_")
        and f"{line['domain']}/".startswith(f"{task}/")
        for line in finished.data.get("left_out", ())
    )


def _figures(finished: Finished, name: str, metric: str) -> dict[str, dict[str, float]]:
    """Return each model's figure on a set, by source; the empty name is all of them."""
    found: dict[str, dict[str, float]] = {}
    for row in leaderboard_rows(finished.folder.path):
        task, _, source = row["task"].partition("/")
        if task == name and row["metric"] == metric:
            found.setdefault(row["model"], {})[source] = row["value"]
    return found
