"""A run learns what transformers' model learns under torch's AdamW: the same loss at each step."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from olmo_core.checkpoint.huggingface import huggingface_config, to_huggingface
from olmo_core.config.train import TrainConfig, load_train_config
from olmo_core.model.init import initialise
from olmo_core.model.transformer import Transformer
from olmo_core.run.folder import read_metrics
from olmo_core.train.build import build_loader

STEPS, RATE = 50, 1e-3
SHARED = [
    f"optimizer.learning_rate={RATE}",
    "scheduler.t_warmup=0",
    "scheduler.alpha_f=1.0",  # a constant rate
    "softmax_auxiliary_loss=false",  # transformers has no z-loss
    "data.instance_filter=null",
    f"max_duration={STEPS}",
    f"stop_at={STEPS}",
    "save_interval=null",
]
FAMILIES = {
    "olmo2": [],
    "olmo1": [
        "model.layer_norm_type=default",
        "model.layer_norm_with_affine=false",
        "model.layer_norm_eps=1e-5",
        "model.attention_layer_norm=false",
        "model.norm_after=false",
        "model.weight_tying=true",
        "model.init_fn=mitchell",
        "optimizer.decay_embeddings=true",
    ],
}


def transformers_model(config: TrainConfig) -> Any:
    """Transformers' model, in its plain attention, with the first weights of the run."""
    import transformers

    ours = Transformer(config.model)
    initialise(ours, config.seed)
    values = huggingface_config(config.model, eos_token_id=0, pad_token_id=1)
    kind = values.pop("model_type")
    settings = transformers.AutoConfig.for_model(kind, **values)
    settings._attn_implementation = "eager"
    theirs = transformers.AutoModelForCausalLM.from_config(settings)
    tied = {"lm_head.weight"} if config.model.weight_tying else set[str]()
    weights = to_huggingface(dict(ours.named_parameters()), config.model)
    loaded = theirs.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) == tied
    return theirs


def transformers_losses(config: TrainConfig, *, undecayed: tuple[str, ...]) -> Iterator[float]:
    """A plain loop: transformers' own loss, torch's clipping, torch's unfused AdamW."""
    model, loader = transformers_model(config), build_loader(config)
    groups: tuple[list[Any], list[Any]] = ([], [])
    for name, parameter in model.named_parameters():
        groups[any(part in name for part in undecayed)].append(parameter)
    optimizer = torch.optim.AdamW(
        [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.1,
        foreach=False,
    )
    for step in range(STEPS):
        ids = torch.from_numpy(loader.batch(step).input_ids)
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize(
    ("family", "undecayed"), [("olmo2", ("embed_tokens", "norm")), ("olmo1", ())]
)
def test_the_loss_is_transformers_at_each_step(
    family: str,
    undecayed: tuple[str, ...],
    train: Callable[..., int],
    config_file: Path,
    tmp_path: Path,
) -> None:
    overrides = [*SHARED, *FAMILIES[family], "optimizer.betas=[0.9,0.95]"]
    assert train("run", *overrides) == 0
    ours = [row["train/CrossEntropyLoss"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    config, _ = load_train_config(config_file, overrides)
    theirs = list(transformers_losses(config, undecayed=undecayed))
    assert len(ours) == len(theirs) == STEPS
    difference = [abs(mine - other) for mine, other in zip(ours, theirs, strict=True)]
    assert max(difference[:5]) <= 1e-5, difference[:5]
    assert max(difference) <= 2e-4, difference
    assert ours[-1] < ours[0] - 0.2  # something was learned
