"""Lists of excluded documents that lie beside the recipe: their paths are relative to its file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assets.corpus.doors import has_text
from assets.node import Node
from assets.recipe import Recipe
from olmo_core.config.load import Tree
from olmo_core.corpus.intake.raw import RawConfig
from olmo_core.corpus.intake.sources import SourceConfig

KEY = "exclude_documents"


def source_trees(recipe: Recipe) -> dict[str, Tree]:
    """Return the mapping of each source of `raw`, as its file has it, by the source's name.

    Raises:
        ConfigError: the section is missing or malformed.
    """
    recipe.section("corpus", "raw", RawConfig)
    return {str(tree["name"]): tree for tree in recipe.corpus["raw"]["sources"]}


def placed_sources(recipe: Recipe) -> tuple[SourceConfig, ...]:
    """Return the sources of `raw`; a list that is named relative lies beside the file that does."""
    trees = source_trees(recipe)
    return tuple(
        replace(source, exclude_documents=_placed(source.exclude_documents, trees[source.name]))
        for source in recipe.section("corpus", "raw", RawConfig).sources
    )


def _placed(path: str, tree: Tree) -> str:
    # What begins with ~ or a variable is absolute, or refused with the variable's name.
    if not path or path[0] in "/~$":
        return path
    return str(Path(tree.file).absolute().parent / path)


def with_places(
    sources: Sequence[SourceConfig], node: Node, inputs: Mapping[str, Path], folder: Path
) -> dict[str, Any]:
    """Return the content of config.yaml of `raw`, which says where its lists lie."""
    content = dict(replace(node, render=None).config_file(inputs, folder))
    lists = {source.name: source.exclude_documents for source in sources}
    content["config"] = {
        **content["config"],
        "sources": [
            {**source, KEY: lists[source["name"]]} if source[KEY] else source
            for source in content["config"]["sources"]
        ],
    }
    return content


def takedown_folder(recipe: Recipe) -> Path:
    """Return the folder whose lists and ledger are the recipe's: that of its sources' file."""
    trees = [*source_trees(recipe).values()] if has_text(recipe) else []
    return Path(trees[0].file if trees else recipe.corpus.file).absolute().parent
