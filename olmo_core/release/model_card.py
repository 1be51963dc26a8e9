"""The model card of the final model; every figure is read from finished runs.

Run as `python -m olmo_core.release.model_card RUN_FOLDER/config.yaml`. `README.md` has the front
matter that the hub reads (https://huggingface.co/docs/hub/model-cards).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from olmo_core.config.load import load
from olmo_core.config.release import ModelCardConfig
from olmo_core.evals.results import leaderboard_rows
from olmo_core.files import write_atomic
from olmo_core.run.command import run_job
from olmo_core.run.folder import RunFolder
from olmo_core.run.job import Job, Report

SOUP = "soup"
SHOWN_KEYS = (
    "model.d_model",
    "model.n_layers",
    "model.n_heads",
    "model.mlp_hidden_size",
    "model.mlp_ratio",
    "model.max_sequence_length",
    "model.vocab_size",
    "model.rope_theta",
    "model.weight_tying",
    "max_duration",
    "global_train_batch_size",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.betas",
    "scheduler.name",
    "scheduler.t_warmup",
    "scheduler.alpha_f",
    "max_grad_norm",
    "precision",
    "seed",
)
FILTERED = "All documents after deduplication and filters"


@dataclass(frozen=True, kw_only=True)
class CardConfig(ModelCardConfig):
    """What the section says, and what the graph knows beside it."""

    licences: Mapping[str, str] = field(default_factory=dict[str, str])  # of sources


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card is written from: the reports of the runs behind the model."""

    export: Mapping[str, Any]
    final: str  # the model of `main`: the soup, or stage 1 where there is no stage 2
    soup: Mapping[str, Any] | None
    tables: Mapping[str, Sequence[Mapping[str, Any]]]  # title -> sources of tokens, of a mix
    configs: Mapping[str, Mapping[str, Any]]  # training configuration of each trained model
    leaderboard: str  # Markdown
    rows: Sequence[Mapping[str, Any]]


def make(config: CardConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Write `README.md`."""
    facts = read_facts(inputs)
    text = card(config, facts)
    write_atomic(job.folder / "README.md", text)
    limitations = limits(config, facts)
    return Report(
        numbers={"characters": len(text), "models": len(facts.export["data"]["models"])},
        tables={"limitations": [{"limitation": text} for text in limitations]},
        samples={"card": [text[:2000]]},
    )


def read_facts(inputs: Mapping[str, Path]) -> Facts:
    """Read the reports of all inputs, and the configuration of each model that was trained."""
    results = {name: RunFolder(path).read_result() for name, path in inputs.items()}
    reports = {name: result["report"] for name, result in results.items()}
    trained = [model["model"] for model in reports["export"]["data"]["models"]]
    return Facts(
        export=reports["export"],
        final=trained[-1],
        soup=reports.get(SOUP),
        tables={
            data_title(name, results): report["tables"]["sources"]
            for name, report in reports.items()
            if "sources" in report.get("tables", {})
        },
        configs={
            name: load(inputs[name] / "model" / "config.yaml")
            for name in trained
            if name in inputs and name != SOUP
        },
        leaderboard=(inputs["leaderboard"] / "leaderboard.md").read_text(encoding="utf-8"),
        rows=leaderboard_rows(inputs["leaderboard"]),
    )


def data_title(name: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the title of a table of sources; that of a mix says which ingredients read it."""
    if name == "stage1_mix":
        return "Stage 1:"
    if name == "tokens":
        report = results[name]["report"]
        sources = [row["source"] for row in report["tables"]["sources"]]
        published = report.get("data", {}).get("published", ())
        if not published:
            return f"{FILTERED}:"
        if set(sources) == {*published}:
            return "All documents of published token files, as they are:"
        return (
            f"{FILTERED}, and those of published token files as they are ({', '.join(published)}):"
        )
    ingredients = [model for model in results if model.startswith("stage2_ingredient")]
    readers = [f"`{model}`" for model in ingredients if name in results[model]["inputs"]]
    some = "" if len(readers) == len(ingredients) else f" ({', '.join(readers)})"
    return f"Stage 2{some}:"


def card(config: CardConfig, facts: Facts) -> str:
    """Return the whole README.md."""
    repository = facts.export["data"]["repository"]
    parts = [
        f"---\n{yaml.safe_dump(front_matter(config, facts), sort_keys=False)}---",
        f"# {config.title}",
        config.description,
        _summary(facts),
        "## Use",
        _usage(repository),
        "## Models and revisions",
        _table(facts.export["tables"]["models"], ("model", "revision", "step", "tokens")),
        *_souped(facts.soup),
        "## Data",
        *(part for title, rows in facts.tables.items() for part in (title, _table(rows))),
        *_licences(config.licences),
        "## Training",
        _training(facts),
        "## Evaluation",
        facts.leaderboard,
        _measures(facts),
        *(["## Intended use", config.intended_use] if config.intended_use else []),
        "## Limitations",
        "\n".join(f"- {text}" for text in limits(config, facts)),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _measures(facts: Facts) -> str:
    losses = (
        "Loss (nats per token) and bits per byte (bpb) are of held-out documents; lower is better. "
    )
    scores = "Task scores are lm-eval's accuracies with their standard error; higher is better."
    return losses + scores if any(row["metric"] == "loss" for row in facts.rows) else scores


def _licences(licences: Mapping[str, str]) -> list[str]:
    if not licences:
        return []
    rows = [{"source": source, "licence": licence} for source, licence in licences.items()]
    return ["Sources are under these licences, as the recipe says:", _table(rows)]


def _souped(soup: Mapping[str, Any] | None) -> list[str]:
    if soup is None:
        return ["`main` is the last checkpoint of stage 1."]
    rows = soup["tables"]["ingredients"]
    shares = {f"`{row['model']}`": row["weight"] for row in rows if row["weight"]}
    if len(shares) == 1:
        made = f"the weights of {''.join(shares)}, as the other ingredients have weight 0"
    elif len(set(shares.values())) == 1:
        made = f"the mean of the weights of {', '.join(shares)}, summed in f64 and rounded once"
    else:
        terms = " + ".join(f"{share} × {name}" for name, share in shares.items())
        made = f"{terms}, summed in f64 and rounded once"
    columns = ("model", "weight", "step", "tokens", "sha256")
    return [f"`main` is the soup: {made}.", _table(rows, columns)]


def front_matter(config: ModelCardConfig, facts: Facts) -> dict[str, Any]:
    """Return the card's YAML head, with the final model's scores as the hub's `model-index`."""
    rows = [row for row in facts.rows if row["model"] == facts.final]
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": row["task"], "type": row["task"]},
            "metrics": [{"type": row["metric"], "value": round(row["value"], 4)}],
        }
        for row in rows
        if row["stderr"] is not None
    ]
    head: dict[str, Any] = {
        "language": list(config.language),
        "license": config.license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(config.tags),
        "model-index": [{"name": facts.export["data"]["repository"], "results": results}],
    }
    if config.license_name is not None:
        head["license_name"] = config.license_name
    return head


def limits(config: ModelCardConfig, facts: Facts) -> list[str]:
    """Return the author's limitations and those that the results themselves show."""
    parameters = int(facts.export["numbers"]["parameters"])
    tokens = sum(model["tokens"] or 0 for model in facts.export["data"]["models"][:1])
    few = (
        f" ({tokens / parameters:.1f} a parameter; about 20 are usual for the best use of "
        "compute, and released models see far more)"
    )
    seen = f"It has {parameters:,} parameters and saw {tokens:,} tokens in stage 1"
    found = [*config.limitations, f"{seen}{few if tokens < 20 * parameters else ''}."]
    errors = [row["stderr"] for row in facts.rows if row["model"] == facts.final and row["stderr"]]
    if errors and max(errors) > 0.02:
        found.append(
            f"Task scores have standard errors of up to {max(errors):.3f}: differences between "
            "the models that are smaller say nothing."
        )
    found.append("It is a base model: not tuned to follow instructions, nor for safety.")
    return found


def _summary(facts: Facts) -> str:
    numbers = facts.export["numbers"]
    losses = [
        f", held-out loss {row['value']:.3f} nats per token"
        for row in facts.rows
        if row["model"] == facts.final and row["metric"] == "loss" and "/" not in row["task"]
    ]
    return (
        f"A base language model of {int(numbers['parameters']):,} parameters "
        f"(`{numbers['architecture']}`){''.join(losses[-1:])}."
    )


def _usage(repository: str) -> str:
    return f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{repository}")  # revision="…" for the others
tokenizer = AutoTokenizer.from_pretrained("{repository}")
inputs = tokenizer("Language modeling is ", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=32)[0]))
```

Without a network: HF_HOME on the export's run folder (it holds `hub/`) and HF_HUB_OFFLINE=1, or
`from_pretrained("<export>/exports/<model>")`."""


def _training(facts: Facts) -> str:
    rows = {
        key: {name: _dotted(config, key) for name, config in facts.configs.items()}
        for key in SHOWN_KEYS
    }
    if any(rows["model.mlp_hidden_size"].values()):
        del rows["model.mlp_ratio"]  # OLMo does not read it then
    return _table([{"key": f"`{key}`", **row} for key, row in rows.items() if any(row.values())])


def _dotted(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as a Markdown table, numbers right-aligned."""
    if not rows:
        return ""
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    numeric = [all(isinstance(row.get(name), int | float) for row in rows) for name in names]
    lines = [
        f"| {' | '.join(names)} |",
        f"| {' | '.join('---:' if right else '---' for right in numeric)} |",
    ]
    lines += [f"| {' | '.join(_cell(row.get(name)) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    run_job(CardConfig, make)
