"""Checks of the corpus; they block where a bad corpus would waste a training run."""

from collections.abc import Collection, Sequence

from assets.node import Check, Finished, Verdict, check
from olmo_core.config.duration import Duration
from olmo_core.config.train import TrainConfig
from olmo_core.corpus.filters.names import EVALUATION_COVERED

MOST_EPOCHS = 4  # repeats beyond four teach little: Muennighoff et al. 2023, arXiv:2305.16264


@check("No source is empty.")
def sources_have_documents(finished: Finished) -> Verdict:
    rows = finished.result["report"]["tables"]["sources"]
    empty = [row["source"] for row in rows if not row["documents"]]
    if empty:
        return Verdict(False, f"without a document: {', '.join(empty)}")
    return Verdict(True, f"{len(rows)} sources, all with documents")


@check("Every entry of a list of excluded documents names a document.", blocking=False)
def exclusions_matched(finished: Finished) -> Verdict:
    rows = finished.result["report"]["tables"]["excluded"]
    missed = [row for row in rows if row["matched_nothing"]]
    if missed:
        said = ", ".join(
            f"{row['matched_nothing']} {row['kind']} of {row['source']}" for row in missed
        )
        return Verdict(False, f"without a document: {said} (log/matched_nothing/ lists them)")
    documents = sum(row["documents"] for row in rows)
    return Verdict(True, f"{sum(row['entries'] for row in rows)} entries, {documents} documents")


def no_evaluation_text(max_share: float, unchecked_sources: Collection[str]) -> Check:
    """Return the check of `filtered`: no document holds more than a share of an evaluation text."""

    @check("No kept document holds a text that the models are evaluated on.")
    def no_evaluation_text(finished: Finished) -> Verdict:
        held: dict[str, tuple[float, str]] = finished.data["evaluation"]
        worst = {name: most for name, most in held.items() if name not in unchecked_sources}
        found = [most for most in worst.values() if most[0] > max_share]
        if found:
            said = "; ".join(f"{name} holds {share:.0%} of one" for share, name in found)
            return Verdict(
                False,
                f"{said}, max_share is {max_share:.0%}: drop it by a rule on {EVALUATION_COVERED} "
                "(samples: olmo show, decontaminated)",
            )
        most = max((share for share, _ in worst.values()), default=0.0)
        return Verdict(True, f"at most {most:.0%} of one in any", {"share": most})

    return no_evaluation_text


@check("Every kept document was tokenised.")
def tokens_of_every_document(finished: Finished) -> Verdict:
    kept, tokenised = finished.input_data("filtered")["sources"], finished.data["documents"]
    wrong = [source for source in kept if kept[source] != tokenised.get(source, 0)]
    known = {*kept, *finished.data.get("published", ())}
    wrong += [source for source in tokenised if source not in known]
    if wrong:
        return Verdict(False, f"other numbers of documents: {', '.join(wrong)}")
    return Verdict(True, f"{sum(kept.values())} documents of {len(kept)} sources")


@check("The tokens are of the tokenizer that stands beside them.")
def same_vocabulary(finished: Finished) -> Verdict:
    digest, used = finished.input_data("tokenizer")["sha256"], finished.data["tokenizer_sha256"]
    return Verdict(digest == used, f"tokenizer {digest[:12]}, tokens made with {used[:12]}")


def fits_training(configs: Sequence[TrainConfig]) -> Check:
    """Return the check of a mix: it fits every run that reads it, and none repeats it too often."""

    @check(f"The vocabulary fits the model, and no more than {MOST_EPOCHS} epochs are read.")
    def fits_training(finished: Finished) -> Verdict:
        verdicts = [_fits(finished, config) for config in configs]
        failed = [verdict for verdict in verdicts if not verdict.passed]
        return failed[0] if failed else max(verdicts, key=lambda v: v.figures["epochs"])

    return fits_training


def _fits(finished: Finished, config: TrainConfig) -> Verdict:
    tokens = sum(finished.data["tokens"].values())
    rows = config.model.padded_vocab_size
    vocabulary = finished.input_data("tokens")["vocab_size"]
    if vocabulary > rows:
        return Verdict(False, f"{vocabulary} token ids, but the model's embedding has {rows} rows")
    per_epoch = tokens // config.tokens_per_step
    if per_epoch < 1:
        return Verdict(False, f"{tokens} tokens are less than one step ({config.tokens_per_step})")
    wanted = Duration.parse(config.max_duration).tokens(config.tokens_per_step, per_epoch)
    assert wanted is not None  # the epoch's length is known here
    epochs = wanted / (per_epoch * config.tokens_per_step)
    passed, said = epochs <= MOST_EPOCHS, f"{tokens:,} tokens, read {epochs:.2f} times"
    if not passed:
        said += (
            f"; expected at most {MOST_EPOCHS}: lower max_duration ({config.max_duration}), or "
            "give the mix more text (the tables of filtered say what was dropped)"
        )
    return Verdict(passed, said, {"tokens": tokens, "epochs": epochs})
