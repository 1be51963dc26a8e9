"""Put the nodes of the four life stages together to the graph of a recipe."""

from assets.agreement import require_agreement
from assets.corpus.nodes import corpus_nodes
from assets.evals.nodes import evals_nodes
from assets.graph import Graph
from assets.paths import root
from assets.recipe import Recipe
from assets.release.nodes import release_nodes
from assets.train.nodes import train_nodes
from olmo_core.run.accepted import read_acceptances


def build_graph(recipe: Recipe) -> Graph:
    """Make the graph of a recipe.

    Raises:
        ConfigError: a section of the recipe is missing, malformed or unknown.
    """
    require_agreement(recipe)
    training = train_nodes(recipe)
    models = [node.name for node in training if node.name != "export"]
    nodes = [
        *corpus_nodes(recipe),
        *training,
        *evals_nodes(recipe),
        *release_nodes(recipe, models),
    ]
    in_evals = [node.name for node in training if node.name in ("soup", "export")]
    in_evals += [node.name for node in nodes if node.stage in ("evals", "release")]
    # A variant that holds nothing out has its base's section still; one may name no models.
    in_evals += ["perplexity", "models"]
    recipe.expect_sections("corpus", [node.name for node in nodes if node.stage == "corpus"])
    recipe.expect_sections("evals", in_evals)
    return Graph(
        recipe=recipe,
        nodes={node.name: node for node in nodes},
        acceptances=read_acceptances(root()),
    )
