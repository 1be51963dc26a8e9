"""The model card of the final model; every figure is read from finished runs.

Run as `python -m olmo_core.release.model_card RUN_FOLDER/config.yaml`. `README.md` has the front
matter that the hub reads (https://huggingface.co/docs/hub/model-cards). No text of a document
stands in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from olmo_core.config.model_card import ModelCardConfig
from olmo_core.files import write_atomic
from olmo_core.release import card_energy, card_scores, card_training
from olmo_core.release.card_data import data
from olmo_core.release.card_facts import Facts, read_facts
from olmo_core.release.card_tables import table
from olmo_core.run.command import run_job
from olmo_core.run.job import Job, Report

CARD = "README.md"
FINE_TUNING = """```python
from transformers import Trainer, TrainingArguments

trainer = Trainer(model=model, args=TrainingArguments(output_dir="tuned"), train_dataset=…)
trainer.train()
```

Or with the code that trained it, from an exported folder: `load_path: <folder>` in a training
configuration."""


@dataclass(frozen=True, kw_only=True)
class CardConfig(ModelCardConfig):
    """What the section says, and what the graph knows beside it."""

    licences: Mapping[str, str] = field(default_factory=dict[str, str])  # of sources
    # Why the section's texts are left out; empty where they are of this recipe's model.
    unconfirmed: str = ""


def make(config: CardConfig, inputs: Mapping[str, Path], job: Job) -> Report:
    """Write `README.md`."""
    facts = read_facts(inputs)
    text = card(config, facts)
    write_atomic(job.folder / CARD, text)
    models = facts.export["data"]["models"]
    return Report(
        numbers={"characters": len(text), "models": len(models)},
        tables={"limitations": [{"limitation": text} for text in limits(config, facts)]},
        markdown={"card": body(config, facts)},
        data={"repository": facts.repository, "unconfirmed": config.unconfirmed},
    )


def card(config: CardConfig, facts: Facts) -> str:
    """Return the whole README.md."""
    head = yaml.safe_dump(front_matter(config, facts), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{body(config, facts)}"


def body(config: CardConfig, facts: Facts) -> str:
    """Return the card as a person reads it, without the front matter."""
    parts = [
        f"# {config.title}",
        f"*{config.unconfirmed}*" if config.unconfirmed else "",
        config.description,
        _summary(facts),
        "## Use",
        _usage(facts.repository),
        "### Fine-tuning",
        FINE_TUNING,
        "## Models and revisions",
        *card_training.models(facts),
        "## Data",
        *data(facts, config.licences),
        "## Training",
        *card_training.training(facts, config.hardware),
        "## Evaluation",
        facts.leaderboard,
        card_scores.measures(facts),
        f"All figures of `{facts.final}`, without those of single domains:",
        table(card_scores.results(facts)),
        *(["## Intended use", config.intended_use] if config.intended_use else []),
        "## Limitations",
        "\n".join(f"- {text}" for text in limits(config, facts)),
        *(["## Citation", f"```bibtex\n{config.citation.strip()}\n```"] if config.citation else []),
        "## Provenance",
        *card_training.provenance(facts),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def front_matter(config: ModelCardConfig, facts: Facts) -> dict[str, Any]:
    """Return the card's YAML head, with the final model's scores as the hub's `model-index`."""
    head = {
        "language": list(config.language),
        "license": config.license,
        "license_name": config.license_name,
        "license_link": config.license_link,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": list(config.tags),
        "datasets": list(config.datasets),
        "base_model": config.base_model,
        "co2_eq_emissions": card_energy.co2_eq_emissions(
            facts.uses,
            training_type="fine-tuning" if config.base_model else "pre-training",
            hardware=config.hardware,
        ),
        "model-index": [{"name": facts.repository, "results": card_scores.model_index(facts)}],
    }
    return {key: value for key, value in head.items() if value not in (None, [])}


def limits(config: ModelCardConfig, facts: Facts) -> list[str]:
    """Return the author's limitations and those that the results themselves show."""
    parameters = int(facts.export["numbers"]["parameters"])
    tokens = facts.tokens_in_all(facts.final)
    found = list(config.limitations)
    if tokens is not None:
        few = (
            f" ({tokens / parameters:.1f} a parameter; about 20 are usual for the best use of "
            "compute, and released models see far more)"
        )
        seen = f"It has {parameters:,} parameters, and {tokens:,} tokens were read to make it"
        found.append(f"{seen}{few if tokens < 20 * parameters else ''}.")
    errors = [row["stderr"] for row in facts.final_rows if row["stderr"]]
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
        f", loss {value:.3f} nats per token on `{name}`"
        for name, value in card_scores.losses(facts).items()
    ]
    return (
        f"A base language model of {int(numbers['parameters']):,} parameters "
        f"(`{numbers['architecture']}`){''.join(losses[:1])}."
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


if __name__ == "__main__":
    run_job(CardConfig, make)
