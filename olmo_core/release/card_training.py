"""The sections of a model card on training: models, architecture, optimiser, cost, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.release import card_energy
from olmo_core.release.card_facts import Facts
from olmo_core.release.card_tables import table

ARCHITECTURE = (
    "model.d_model",
    "model.n_layers",
    "model.n_heads",
    "model.n_kv_heads",
    "model.mlp_hidden_size",
    "model.mlp_ratio",
    "model.max_sequence_length",
    "model.vocab_size",
    "model.embedding_size",
    "model.rope_theta",
    "model.norm_after",
    "model.clip_qkv",
    "model.weight_tying",
)
OPTIMISER = (
    "max_duration",
    "global_train_batch_size",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.betas",
    "optimizer.eps",
    "scheduler.name",
    "scheduler.units",
    "scheduler.t_warmup",
    "scheduler.t_max",
    "scheduler.alpha_f",
    "max_grad_norm",
    "softmax_auxiliary_loss",
    "precision",
    "seed",
)
COSTS = {
    "steps": "steps",
    "ranks": "ranks",
    "threads": "threads",
    "tokens/s": "tokens_per_second",
    "MFU %": "mfu_percent",
}


def models(facts: Facts) -> list[str]:
    """Return the table of models; `tokens_in_all` counts those that a model was made from, too."""
    rows = [
        {**row, "tokens_in_all": facts.tokens_in_all(row["model"])}
        for row in facts.export["tables"]["models"]
    ]
    same = [row for row in rows if row.get("same_weights_as")]
    return [
        table(rows, ("model", "revision", "step", "tokens", "tokens_in_all")),
        *(f"`{row['revision']}` has the weights of {row['same_weights_as']}." for row in same),
        *_souped(facts.soup),
    ]


def _souped(soup: Mapping[str, Any] | None) -> list[str]:
    if soup is None:
        return ["`main` is the last checkpoint of stage 1."]
    rows = soup["tables"]["ingredients"]
    shares = {f"`{row['model']}`": row["weight"] for row in rows if row["weight"]}
    if len(rows) == 1:
        made = f"the mean of the last checkpoints of {''.join(shares)}"
    elif len(shares) == 1:
        made = f"the weights of {''.join(shares)}, as the other ingredients have weight 0"
    elif len(set(shares.values())) == 1:
        made = f"the mean of the weights of {', '.join(shares)}, summed in f64 and rounded once"
    else:
        terms = " + ".join(f"{share} × {name}" for name, share in shares.items())
        made = f"{terms}, summed in f64 and rounded once"
    columns = ("model", "weight", "step", "tokens", "sha256")
    return [f"`main` is the soup: {made}.", *_found(soup), table(rows, columns)]


def _found(soup: Mapping[str, Any]) -> list[str]:
    """Return how weights and ingredients of a soup were found, where that was not said."""
    said: list[str] = []
    checkpoints = soup["data"].get("last_checkpoints", 1)
    if checkpoints > 1:
        said.append(f"Of each run the last {checkpoints} checkpoints were averaged first.")
    if soup["data"].get("method") == "greedy":
        said.append(
            "Its ingredients were chosen greedily by the loss on held-out documents; on these its "
            "loss flatters it."
        )
    return [" ".join(said)] if said else []


def training(facts: Facts, hardware: str) -> list[str]:
    """Return architecture, optimiser and what the runs took, each as a table of all runs."""
    parts = ["### Architecture", _keys(facts, ARCHITECTURE), "### Optimiser"]
    parts += [_keys(facts, OPTIMISER), "### Hardware, duration, energy", hardware]
    rows: list[dict[str, Any]] = []
    for name in facts.configs:
        result = facts.results[name]
        numbers = result["report"].get("numbers", {})
        taken = {title: numbers.get(key) for title, key in COSTS.items()}
        measured = {title: value for title, value in taken.items() if value is not None}
        rows.append({"run": name, **measured, "seconds": result.get("work_seconds")})
    return [*parts, table(rows), *card_energy.energy(facts.uses)]


def provenance(facts: Facts) -> list[str]:
    """Return which code and results the model is of: fingerprints, digests, commits, versions."""
    rows: list[dict[str, Any]] = []
    versions: dict[str, set[str]] = {}
    for name, result in facts.results.items():
        launch = facts.launches[name]
        code = launch.get("code") or {}
        commit = str(code.get("commit", ""))[:12] + (" + changes" if code.get("dirty") else "")
        rows.append(
            {
                "result": name,
                "fingerprint": (result.get("fingerprint") or "")[:12],
                "digest": (result.get("digest") or "")[:12],
                "commit": commit,
            }
        )
        for package, version in launch.get("versions", {}).items():
            versions.setdefault(package, set()).add(version)
    said = ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items())
    return [
        "Equal fingerprints are one result; a digest is of a result's files.",
        table(rows),
        f"Versions: {said}." if said else "",
    ]


def _keys(facts: Facts, keys: Sequence[str]) -> str:
    rows = {
        key: {name: _dotted(config, key) for name, config in facts.configs.items()} for key in keys
    }
    if any(rows.get("model.mlp_hidden_size", {}).values()):
        del rows["model.mlp_ratio"]  # OLMo does not read it then
    return table([{"key": f"`{key}`", **row} for key, row in rows.items() if any(row.values())])


def _dotted(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
