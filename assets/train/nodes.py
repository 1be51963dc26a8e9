"""Training: stage 1, the ingredients of stage 2 and their soup if any, and all of them exported."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assets.corpus.exclusions import takedown_folder
from assets.node import Node, section_node
from assets.recipe import Recipe
from assets.train import checks
from assets.train.soups import soup_node, souped
from assets.train.taken_down import no_batch_holds
from olmo_core.config.ingredients import ingredient_mix
from olmo_core.config.load import to_dict
from olmo_core.config.release import ExportConfig
from olmo_core.config.train import TrainConfig, identity
from olmo_core.evals.in_loop.labels import require_known
from olmo_core.run.code import TRAINING
from olmo_core.run.folder import RunFolder


def train_nodes(recipe: Recipe) -> list[Node]:
    """Return stage 1, a node per ingredient of stage2.yaml and their soup, and the export."""
    ingredients = [
        _training(
            recipe,
            f"stage2_ingredient{number}",
            config,
            mix=ingredient_mix(values),
            parent="stage1",
            description=f"One run: stage 2 from stage 1's last checkpoint, annealed to zero "
            f"({', '.join(f'{key} {value}' for key, value in values.items())}).",
        )
        for number, (values, config) in enumerate(recipe.ingredients(), start=1)
    ]
    models = [
        _training(
            recipe,
            "stage1",
            recipe.stage1_config(),
            mix="stage1_mix",
            description="One run: stage 1 over the whole mix.",
        ),
        *ingredients,
    ]
    if runs := souped(recipe):
        models.append(soup_node(recipe, runs))
    return [
        *models,
        section_node(
            recipe,
            "evals",
            "export",
            ExportConfig,
            stage="train",
            module="olmo_core.release.export",
            description="One Hugging Face folder and one revision per model.",
            inputs=(*(node.name for node in models), "tokenizer"),
            packages=("torch", "transformers", "safetensors"),
            kinds=("huggingface",),
            checks=(checks.logits_agree,),
        ),
    ]


def _training(
    recipe: Recipe,
    name: str,
    config: TrainConfig,
    *,
    mix: str,
    description: str,
    parent: str | None = None,
) -> Node:
    where = f"{recipe.name}: {name}: evaluators"
    require_known(config.evaluators, config.core.evaluators, where)
    return Node(
        recipe=recipe.name,
        name=name,
        stage="train",
        description=description,
        module=TRAINING,
        config=identity(config),
        inputs=(*([parent] if parent else []), mix, "tokens", "tokenizer"),
        packages=("torch", "numpy"),  # numpy shuffles the order `olmo`
        kinds=("pytorch",),
        distributed=True,
        render=functools.partial(_placed, config, mix, parent),
        checks=(
            *(
                (checks.loss_is_finite, checks.parent_is_stage1, checks.annealed_to_zero)
                if parent
                else (checks.loss_fell,)
            ),
            *no_batch_holds(takedown_folder(recipe)),
        ),
    )


def _placed(
    config: TrainConfig,
    mix: str,
    parent: str | None,
    node: Node,
    inputs: Mapping[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Return the configuration with its places: what it loads, where it saves, its tokens."""
    load_path, remote = config.load_path, config.remote_save_folder
    if parent is not None:
        data = RunFolder(inputs[parent]).read_result()["report"]["data"]
        load_path = str(inputs[parent] / data["checkpoint"])
    if remote:
        remote = f"{remote.rstrip('/')}/{node.name}/{folder.name}"
    manifest = inputs[mix] / "manifest.json"
    roots = {name: inputs[name] for name in ("tokens", "tokenizer")}
    placed = dataclasses.replace(
        config,
        save_folder=folder,
        remote_save_folder=remote or None,
        load_path=load_path,
        core=dataclasses.replace(config.core, manifest=manifest, roots=roots),
        data=dataclasses.replace(config.data, paths=None),
    )
    return to_dict(placed)
