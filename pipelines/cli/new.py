"""`olmo new`: a whole recipe for a person's own text, from the starter beside the recipes."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from assets.recipe import FILES, find_recipes, require_name
from assets.variant import save_recipe
from olmo_core.config.optim import SchedulerConfig
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.corpus.intake.user_files import user_files
from olmo_core.errors import ConfigError
from olmo_core.optim.schedule import Schedule
from pipelines.cli.terminal import terminal

STARTER = Path(__file__).parents[1] / "starter"

MIN_TEXT_BYTES = 200_000  # fewer give too few merges, and nothing to hold out
# Text below -> entries of the vocabulary, and a cautious guess of the bytes per token that follow.
VOCABULARIES = ((2e6, 1024, 2.2), (1e7, 4096, 3.0), (math.inf, 8192, 3.3))
COMPRESSED = (".gz", ".zst", ".parquet")
EXPANSION = 3.5  # bytes of text per compressed byte, about
PASSES, MOST_PASSES = 2, 4  # by default; and where a mix's check blocks
MOST_TOKENS = 2_000_000  # of stage 1, by default: minutes on a laptop

TOKENS_PER_STEP = 8 * 256  # as the starter has it
LEARNING_RATE, FLOOR = 8e-3, 0.1
WARMUP_SHARE, COSINE_SHARE, STAGE2_SHARE = 0.05, 1.25, 0.15  # of stage 1's tokens


@dataclass(frozen=True, kw_only=True)
class Text:
    """One folder of text: a source of the recipe."""

    name: str
    folder: Path
    files: int
    size: int  # bytes of text, estimated where files are compressed


def write_recipe(name: str, folders: Sequence[str], tokens: float | None) -> None:
    """Write the recipe where the search path finds it, and say what to do next.

    Raises:
        ConfigError: the name is taken or cannot be one; a folder holds no text, or too little.
    """
    require_name(name, name)
    if name in (found := find_recipes()):
        raise ConfigError(f"{name}: a recipe of this name is there ({found[name]}); choose another")
    texts = [look_at(Path(folder).expanduser()) for folder in folders]
    twice = [text.name for text in texts if sum(text.name == one.name for one in texts) > 1]
    if twice:
        raise ConfigError(f"--text: two folders would both be the source {twice[0]!r}; rename one")
    values = planned(sum(text.size for text in texts), tokens)
    values |= {"name": name, **sources(texts)}
    files = {f"{file}.yaml": STARTER / f"{file}.yaml" for file in FILES}
    files = {file: path for file, path in files.items() if path.is_file()}
    folder = save_recipe(
        name, {file: Template(path.read_text()).substitute(values) for file, path in files.items()}
    )
    console = terminal()
    for text in texts:
        console.print(f"{text.name}: {text.files:,} files, about {text.size / 1e6:,.1f} MB of text")
    console.print(
        f"stage 1: {values['stage1_steps']} steps of {TOKENS_PER_STEP:,} tokens; "
        f"stage 2: three ingredients of {values['stage2_steps']} steps"
    )
    console.print(f"written: {folder}\n\nNext:\n  olmo run {name}")
    console.print(f"  olmo plan {name}    # says before what that would make")


def look_at(folder: Path) -> Text:
    """Return what a folder holds.

    Raises:
        ConfigError: it is no folder, holds no text, or its path cannot stand in a recipe.
    """
    folder = folder.absolute()
    if "$" in str(folder):
        raise ConfigError(f"--text {folder}: a recipe takes $ for a variable; rename the folder")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).lstrip("_.-")[:100] or "text"
    units = user_files(SourceConfig(name=name, reader="files", root=str(folder))).units
    sizes = (
        unit.path.stat().st_size * (EXPANSION if unit.path.suffix in COMPRESSED else 1)
        for unit in units
    )
    return Text(name=name, folder=folder, files=len(units), size=round(sum(sizes)))


def planned(size: int, tokens: float | None) -> dict[str, object]:
    """Return the numbers of the recipe for so many bytes of text.

    Stage 2 begins at the rate at which stage 1's cosine is cut off.

    Raises:
        ConfigError: there is too little text, or too little for so many tokens.
    """
    if size < MIN_TEXT_BYTES:
        raise ConfigError(
            f"--text: about {size:,} bytes of text; expected at least {MIN_TEXT_BYTES:,}: with "
            "less, a tokenizer has too few pairs to merge and nothing can be held out"
        )
    vocab_size, bytes_per_token = next(
        (entries, ratio) for below, entries, ratio in VOCABULARIES if size < below
    )
    available = size / bytes_per_token
    if tokens is None:
        tokens = min(PASSES * available, MOST_TOKENS)
    elif not TOKENS_PER_STEP * 20 <= tokens <= MOST_PASSES * available:
        raise ConfigError(
            f"--tokens {tokens:g}: the text has about {available:,.0f} tokens; expected at least "
            f"{TOKENS_PER_STEP * 20:,} and at most {MOST_PASSES} passes, "
            f"{MOST_PASSES * available:,.0f}"
        )
    stage1, stage2 = (round(n, -3) for n in (int(tokens), int(tokens * STAGE2_SHARE)))
    scheduler = SchedulerConfig(
        name="cosine_with_warmup",
        units="tokens",
        t_warmup=round(stage1 * WARMUP_SHARE),
        t_max=round(stage1 * COSINE_SHARE),
        alpha_f=FLOOR,
        warmup_min_lr=0.0,
    )
    assert scheduler.t_max is not None
    schedule = Schedule(config=scheduler, peak=LEARNING_RATE, end=scheduler.t_max)
    steps1, steps2 = (math.ceil(n / TOKENS_PER_STEP) for n in (stage1, stage2))
    return {
        "stage1_steps": steps1,
        "stage2_steps": steps2,
        "vocab_size": vocab_size,
        "learning_rate": LEARNING_RATE,
        "warmup": scheduler.t_warmup,
        "t_max": scheduler.t_max,
        "stage1_tokens": stage1,
        "stage2_tokens": stage2,
        "stage2_learning_rate": f"{schedule.learning_rate(steps1 * TOKENS_PER_STEP):.5g}",
        "save_interval": math.ceil(steps1 / 3),
    }


def sources(texts: Sequence[Text]) -> Mapping[str, str]:
    """Return the parts of corpus.yaml that name the sources, as YAML."""
    rules = """ &text
      - {name: contaminated, attribute: contamination__paragraphs, above: 0.3}
      - {name: evaluation_text, attribute: evaluation__covered, above: 0.5}
      - {name: same_text, attribute: duplicates__text, above: 0}
      - {name: repeated_paragraphs, attribute: duplicates__paragraphs, above: 0.7}
      - {name: repeated_phrases, above: 0.4,
         attribute: tags__gopher_v2__fraction_of_characters_in_duplicate_5grams}"""
    names = [json.dumps(text.name) for text in texts]  # quoted: 2024 and on are names too
    roots = [json.dumps(str(text.folder)) for text in texts]
    first, *others = names
    return {
        "sources": "\n".join(
            f"    - {{name: {name}, reader: files, root: {root}}}"
            for name, root in zip(names, roots, strict=True)
        ),
        "taggers": "\n".join(f"    {name}: [gopher_v2]" for name in names),
        "rules": "\n".join([f"    {first}:{rules}", *(f"    {name}: *text" for name in others)]),
        "kept": ", ".join(f"{name}: 0.3" for name in names),
        "mix": ", ".join(f"{name}: {{}}" for name in names),
    }
