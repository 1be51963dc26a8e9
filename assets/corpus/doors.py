"""Through which doors a recipe's corpus comes: text at `raw`, published token files at `tokens`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assets.recipe import Recipe
from olmo_core.config.load import build, nearest, place_in
from olmo_core.config.perplexity import PerplexityConfig
from olmo_core.corpus.duplicates.held_out import HeldOutConfig
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.tokens.tokenizer import TokenizerConfig
from olmo_core.corpus.tokens.tokens import TokensConfig
from olmo_core.data.format import dtype_for
from olmo_core.errors import ConfigError

TEXT_ASSETS = (
    "raw",
    "near_duplicates",
    "held_out",
    "tagged",
    "deduplicated",
    "decontaminated",
    "filtered",
)


def has_text(recipe: Recipe) -> bool:
    """Return whether any source is text; one is, unless token files alone are named."""
    published = recipe.section("corpus", "tokens", TokensConfig).published
    return not published or recipe.corpus.get("raw") is not None


def holds_out(recipe: Recipe) -> bool:
    """Return whether documents are held out, to measure perplexity on."""
    return has_text(recipe) and recipe.section("corpus", "held_out", HeldOutConfig).share > 0


def source_names(recipe: Recipe) -> list[str]:
    """Return the names of all sources, through whichever door.

    Raises:
        ConfigError: two have one name.
    """
    published = recipe.section("corpus", "tokens", TokensConfig).published
    names = [source.source for source in published]
    if has_text(recipe):
        texts = [source.name for source in recipe.section("corpus", "raw", RawConfig).sources]
        if both := set(texts) & set(names):
            raise ConfigError(
                f"{place_in(recipe.corpus, 'tokens.published')}: {min(both)}: the name of a source "
                "in raw too; expected another"
            )
        names = texts + names
    return names


def licences(recipe: Recipe) -> dict[str, str]:
    """Return the licence of each source that says one, by its name."""
    published = recipe.section("corpus", "tokens", TokensConfig).published
    found = {source.source: source.licence for source in published}
    if has_text(recipe):
        texts = recipe.section("corpus", "raw", RawConfig).sources
        found = {source.name: source.licence for source in texts} | found
    return {name: licence for name, licence in found.items() if licence}


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """The file release.yaml of a recipe: what of its data a released page may hold."""

    publishable_text: tuple[str, ...] = ()  # sources


def publishable_sources(recipe: Recipe) -> frozenset[str]:
    """Return the sources whose texts may be published; none where no release.yaml says it.

    Raises:
        ConfigError: it names a source that the recipe does not have.
    """
    if recipe.release is None:
        return frozenset()
    named = build(ReleaseConfig, recipe.release).publishable_text
    known = source_names(recipe)
    for name in named:
        if name not in known:
            place = place_in(recipe.release, "publishable_text")
            raise ConfigError(f"{place}: no source {name!r}; {nearest(name, known)}")
    return frozenset(named)


def without_licences(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a section's configuration whose sources, below `key`, say no licence.

    A licence that is corrected must not make a corpus anew.
    """
    sources = [
        {name: value for name, value in source.items() if name != "licence"}
        for source in config[key]
    ]
    return {**config, key: sources}


def require_doors(recipe: Recipe) -> None:
    """Refuse token files that cannot be read as the recipe's other sections say.

    Raises:
        ConfigError: they need a released tokenizer and one dtype, and without text no section that
            reads it.
    """
    published = recipe.section("corpus", "tokens", TokensConfig).published
    if not published:
        return
    if not has_text(recipe):
        for name in TEXT_ASSETS:
            if recipe.corpus.get(name) is not None:
                raise ConfigError(
                    f"{recipe.corpus.place(name)}: {name}: reads text, and the recipe has none: "
                    "its sources are token files (tokens.published); take the section out, or add "
                    "raw"
                )
    tokenizer = recipe.section("corpus", "tokenizer", TokenizerConfig)
    if not tokenizer.file:
        raise ConfigError(
            f"{recipe.corpus.place('tokenizer')}: tokenizer: file: missing; published token files "
            "(tokens.published) were made by a released tokenizer: name its tokenizer.json"
        )
    dtypes = {source.source: source.dtype for source in published if source.dtype}
    if has_text(recipe):
        dtypes["texts"] = dtype_for(tokenizer.vocab_size).name
    if len(set(dtypes.values())) > 1:
        said = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ConfigError(
            f"{place_in(recipe.corpus, 'tokens.published')}: {said}; expected one dtype: a mix has "
            "one"
        )


def absences(recipe: Recipe) -> str | None:
    """Return which assets the recipe lacks, and why; None if it has text."""
    if has_text(recipe):
        return None
    *others, last = TEXT_ASSETS
    perplexity = recipe.section("evals", "perplexity", PerplexityConfig)
    sets = [each.name for each in perplexity.sets if each.kind != "held_out"]
    measured = (
        f"perplexity is that of {', '.join(sets)} alone" if sets else "no model has a perplexity"
    )
    return (
        "All sources are published token files (tokens.published), so there is no text. The recipe "
        f"does without {', '.join(others)} and {last}: nothing is held out, so {measured}, and "
        "nothing can be searched for evaluation texts."
    )
