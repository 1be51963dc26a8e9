"""Section `perplexity` of a recipe: how models are scored, and on which sets of texts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from olmo_core.config.bounds import Bounded, at_least

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

# The keys of a set besides those that every set has, by its kind.
KEYS: Mapping[str, tuple[str, ...]] = {
    "held_out": (),
    "paloma": ("folder", "split"),
    "documents": ("sources",),
    "tokens": ("sources", "tokenizer", "dtype"),
}


@dataclass(frozen=True, kw_only=True)
class PerplexitySet(Bounded):
    """One set of texts. ~ and ${VARIABLES} of its paths are expanded when they are read.

    Raises:
        ValueError: a name that is none, a key of another kind of set, or a missing one.
    """

    name: str  # of its figures: task `<name>`, `<name>/<source>`, `<name>/<source>/<domain>`
    # held_out: the recipe's own; paloma: a folder in Paloma's layout; documents: JSON lines with a
    # text each; tokens: token files, as those of OLMo's own evaluators
    kind: Literal["held_out", "paloma", "documents", "tokens"]
    folder: str = ""  # of <source>/<split>/*.jsonl.gz; by default ${OLMO_PALOMA}
    split: Literal["val", "test"] = "val"
    # source -> absolute paths and glob patterns
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    tokenizer: str = ""  # absolute path of the tokenizer.json that made the token files
    dtype: Literal["", "uint16", "uint32"] = ""  # default: what the vocabulary needs
    # UTF-8 bytes of the first documents of each source, the last one taken whole; None: as the
    # section says
    bytes_per_source: int | None = at_least(1, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.name, *self.sources):
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"name {name[:120]!r}: expected letters, digits, . _ - (at most 100)"
                )
        own = {"name", "kind", "bytes_per_source", *KEYS[self.kind]}
        foreign = [
            each.name
            for each in fields(self)
            if each.name not in own and getattr(self, each.name) not in ("", "val", {})
        ]
        if foreign:
            raise ValueError(f"{foreign[0]}: no key of a set of kind {self.kind}")
        for key in ("sources", "tokenizer"):
            if key in own and not getattr(self, key):
                raise ValueError(f"{key}: missing in {self.name}; a set of kind {self.kind} has it")
        for source, paths in self.sources.items():
            if not paths:
                raise ValueError(f"sources: {source}: expected at least one path")


HELD_OUT = PerplexitySet(name="held_out", kind="held_out")


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig(Bounded):
    """Perplexity of sets of texts in Paloma's definition.

    Raises:
        ValueError: no set, or two of one name.
    """

    sets: tuple[PerplexitySet, ...] = (HELD_OUT,)
    # tokens; the model's own maximum where that is smaller
    max_window: int = at_least(1, default=2048)
    batch_tokens: int = at_least(1, default=2048)  # padded tokens of a batch
    # of each set that says none itself; None: all
    bytes_per_source: int | None = at_least(1, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [each.name for each in self.sets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            raise ValueError(f"sets: {f'{twice[0]} is given twice' if twice else 'none given'}")

    def limit(self, each: PerplexitySet) -> int | None:
        """Return the bytes that are read of each source of a set; None: all."""
        return self.bytes_per_source if each.bytes_per_source is None else each.bytes_per_source
