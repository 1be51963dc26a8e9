"""Section `models` of a recipe: checkpoints that others released, evaluated beside its own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# What rows call the recipe's own models and the baselines.
TAKEN = re.compile(r"stage1|stage2_ingredient\d+|soup|unigram|chance")


@dataclass(frozen=True, kw_only=True)
class ReleasedModel:
    """Where one model is: in a repository of the hub, or in a folder.

    Raises:
        ValueError: both or neither, or a repository without a revision.
    """

    hub: str = ""  # ORGANISATION/NAME; read from the hub's cache
    revision: str = ""  # of `hub`: a commit, or the name of a branch or a tag
    folder: str = ""  # absolute, in Hugging Face layout; ~ and ${VARIABLES} are expanded
    perplexity: bool = True  # false: on tasks alone, as of an architecture that is not OLMo's

    def __post_init__(self) -> None:
        if bool(self.hub) == bool(self.folder):
            raise ValueError("expected either hub, with revision, or folder")
        if self.hub and not REPOSITORY.fullmatch(self.hub):
            raise ValueError(f"hub: {self.hub!r} is not ORGANISATION/NAME")
        if self.hub and not self.revision:
            raise ValueError(
                "revision: missing; expected a commit, or a name as in main, whose commit is then "
                "recorded"
            )
        if self.folder and self.revision:
            raise ValueError("revision: a folder has none; it is known by its content")


@dataclass(frozen=True, kw_only=True)
class ReleasedModels:
    """The models by the names that they have in rows.

    Raises:
        ValueError: a name that is none, or that the recipe's own models have.
    """

    models: Mapping[str, ReleasedModel] = field(default_factory=dict[str, ReleasedModel])

    def __post_init__(self) -> None:
        for name in self.models:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"models.{name[:80]}: expected a name of a letter, then letters, digits, . _ - "
                    "(at most 63)"
                )
            if TAKEN.fullmatch(name):
                raise ValueError(f"models.{name}: rows have a model or a baseline of this name")
