"""Where the tokenizer of a run lies, whose tokens alone training reads."""

import os
from pathlib import Path

from olmo_core.config.paths import package_folder
from olmo_core.config.train import TrainConfig
from olmo_core.errors import ConfigError

ASSET = "tokenizer"  # in `core.roots`: its run folder


def find_tokenizer(config: TrainConfig) -> Path:
    """Return the tokenizer.json of a run.

    That is the recipe's, or the file that `tokenizer.identifier` names; of OLMo 1's two, which
    official files name by their path in OLMo's repository, the installed wheel's copy.

    Raises:
        ConfigError: it is not here; says what to give.
    """
    if ASSET in config.core.roots:
        return config.core.roots[ASSET] / "tokenizer.json"
    named = Path(os.path.expanduser(config.tokenizer.identifier))
    installed = package_folder("olmo_eval") / "tokenizers" / named.name
    for path in (named, named / "tokenizer.json", installed):
        if path.is_file():
            return path
    raise ConfigError(
        f"its texts need the run's tokenizer, and tokenizer.identifier, {str(named)!r}, is no file "
        "here; give the path of its tokenizer.json"
    )
