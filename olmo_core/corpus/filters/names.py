"""The names that a section may use: of sources, and of attributes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olmo_core.corpus.document import source_names
from olmo_core.errors import ConfigError

# Of a document: the largest share of one evaluation text in it, as `decontaminated` writes it.
EVALUATION_COVERED = "evaluation__covered"


def check_attribute(name: str, where: str) -> None:
    """Refuse what cannot be the name of an attribute that is written here.

    Raises:
        ConfigError: with `where`.
    """
    if not name.replace("_", "").isalnum():
        raise ConfigError(
            f"{where}: attribute {name!r}: expected a name such as tags__gopher_v2__word_count"
        )


def check_found_attribute(name: str, where: str) -> None:
    """Refuse what cannot be an attribute's name, whoever wrote it, or would be more in jq.

    Raises:
        ConfigError: with `where`.
    """
    if not re.fullmatch(r"[\w.:/-]+", name):
        raise ConfigError(
            f"{where}: attribute {name!r}: expected a name such as tags__gopher_v2__word_count"
        )


def check_sources(named: Mapping[str, Any], documents: Path, where: str) -> None:
    """Refuse a per-source setting that does not name exactly the sources that there are.

    Raises:
        ConfigError: a source too few or too many.
    """
    there = set(source_names(documents))
    if set(named) != there:
        raise ConfigError(
            f"{where}: names {sorted(named)}; expected exactly the sources {sorted(there)} "
            f"(missing {sorted(there - set(named))}, unknown {sorted(set(named) - there)})"
        )
