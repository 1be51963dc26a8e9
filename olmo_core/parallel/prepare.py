"""Make a model ready to be trained in a world: the one place that knows in which order."""

from olmo_core.config.train import TrainConfig
from olmo_core.model.transformer import Transformer
from olmo_core.parallel.compiling import compile_blocks
from olmo_core.parallel.gradients import Gradients
from olmo_core.parallel.world import World


def prepare(model: Transformer, config: TrainConfig, world: World, *, sums: int) -> Gradients:
    """Wrap the model in place; its parameters keep their names.

    Args:
        model: On the device of this rank.
        config: `compile`.
        world: The ranks.
        sums: How many sums of a step are reduced with the gradients.

    Returns:
        The gradients of the model, all zero.

    Raises:
        ConfigError: this machine cannot compute the way that is asked for.
    """
    if config.compile is not None:
        compile_blocks(model, config.compile, world.device)
    return Gradients(model.parameters(), sums=sums)
