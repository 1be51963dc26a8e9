"""Checks of the corpus; they block where a bad corpus would waste a training run."""

from collections.abc import Sequence

from assets.node import Check, Finished, Verdict
from olmo_core.config.duration import Duration
from olmo_core.config.train import TrainConfig

MOST_EPOCHS = 4  # repeats beyond four teach little: Muennighoff et al. 2023, arXiv:2305.16264


def sources_have_documents(finished: Finished) -> Verdict:
    """No source is empty."""
    rows = finished.result["report"]["tables"]["sources"]
    empty = [row["source"] for row in rows if not row["documents"]]
    if empty:
        return Verdict(passed=False, description=f"without a document: {', '.join(empty)}")
    return Verdict(passed=True, description=f"{len(rows)} sources, all with documents")


def tokens_of_every_document(finished: Finished) -> Verdict:
    """The token files hold the documents that the filter kept, source by source."""
    kept = finished.inputs["filtered"].read_result()["report"]["data"]["sources"]
    tokenised = finished.data["documents"]
    wrong = [source for source in kept if kept[source] != tokenised.get(source, 0)]
    wrong += [source for source in tokenised if source not in kept]
    if wrong:
        return Verdict(passed=False, description=f"other numbers of documents: {', '.join(wrong)}")
    return Verdict(
        passed=True, description=f"{sum(kept.values())} documents of {len(kept)} sources"
    )


def same_vocabulary(finished: Finished) -> Verdict:
    """The tokens were made by the tokenizer that stands there now."""
    digest = finished.inputs["tokenizer"].read_result()["report"]["data"]["sha256"]
    return Verdict(
        passed=digest == finished.data["tokenizer_sha256"],
        description=f"tokenizer {digest[:12]}, tokens made with "
        f"{finished.data['tokenizer_sha256'][:12]}",
    )


def fits_training(configs: Sequence[TrainConfig]) -> Check:
    """A check of a mix: it fits every run that reads it, and none repeats it too often."""

    def evaluate(finished: Finished) -> Verdict:
        verdicts = [_fits(finished, config) for config in configs]
        failed = [verdict for verdict in verdicts if not verdict.passed]
        return failed[0] if failed else max(verdicts, key=lambda v: v.figures["epochs"])

    return Check(
        name="fits_training",
        description=f"The vocabulary fits the model, and no more than {MOST_EPOCHS} epochs are "
        "read.",
        evaluate=evaluate,
    )


def _fits(finished: Finished, config: TrainConfig) -> Verdict:
    tokens = sum(finished.data["tokens"].values())
    rows = config.model.padded_vocab_size
    vocabulary = finished.inputs["tokens"].read_result()["report"]["data"]["vocab_size"]
    if vocabulary > rows:
        return Verdict(
            passed=False,
            description=f"{vocabulary} token ids, but the model's embedding has {rows} rows",
        )
    per_epoch = tokens // config.tokens_per_step
    if per_epoch < 1:
        return Verdict(
            passed=False,
            description=f"{tokens} tokens are less than one step ({config.tokens_per_step})",
        )
    wanted = Duration.parse(config.max_duration).tokens(config.tokens_per_step, per_epoch)
    assert wanted is not None  # the epoch's length is known here
    epochs = wanted / (per_epoch * config.tokens_per_step)
    return Verdict(
        passed=epochs <= MOST_EPOCHS,
        description=f"{tokens:,} tokens, read {epochs:.2f} times",
        figures={"tokens": tokens, "epochs": epochs},
    )


CHECKS: dict[str, tuple[Check, ...]] = {
    "raw": (
        Check(
            name="sources_have_documents",
            description="No source is empty.",
            evaluate=sources_have_documents,
        ),
    ),
    "tokens": (
        Check(
            name="tokens_of_every_document",
            description="Every kept document was tokenised.",
            evaluate=tokens_of_every_document,
        ),
        Check(
            name="same_vocabulary",
            description="The tokens are of the tokenizer that stands beside them.",
            evaluate=same_vocabulary,
        ),
    ),
}
