"""`olmo run --set … --as …`: save variants of a recipe, then run them one after another."""

from collections.abc import Sequence

from assets.assemble import build_graph
from assets.variant import variants_of
from olmo_core.errors import ConfigError
from pipelines.cli.run import EXIT_INTERRUPTED, run_recipe
from pipelines.cli.terminal import terminal


def run_variants(
    recipe: str, settings: Sequence[str], name: str | None, select: Sequence[str], *, force: bool
) -> int:
    """Save the variants that the settings describe and run each; returns the first bad exit code.

    Raises:
        ConfigError: a setting or the name is refused; then nothing is saved and nothing starts.
        StorageError: the disk is full, or the root cannot be written.
    """
    if name is None:
        raise ConfigError(
            f"--set without --as: a variant is saved as a recipe; name it, as in --as {recipe}_2"
        )
    if not settings:
        raise ConfigError(
            f"--as {name}: nothing differs from {recipe}; say what does, as in "
            "--set stage1.optimizer.learning_rate=2e-3"
        )
    variants = variants_of(recipe, settings, name)
    for variant in variants:
        build_graph(variant.recipe()).select(select)
    console = terminal()
    for variant in variants:
        line = f"{variant.name}: {recipe} with {', '.join(variant.settings)} ({variant.save()})"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    codes: list[int] = []
    for variant in variants:
        if len(variants) > 1:
            line = f"\n{variant.name}: {', '.join(variant.settings)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        codes.append(run_recipe(variant.name, select, force=force))
        if codes[-1] == EXIT_INTERRUPTED:
            return EXIT_INTERRUPTED
    failed = [variant.name for variant, code in zip(variants, codes, strict=True) if code]
    if failed and len(variants) > 1:
        console.print(f"[red]✗[/] not made: {', '.join(failed)}", highlight=False)
    return next((code for code in codes if code), 0)
