"""The taggers that a recipe may name: dolma's, fastText models, and files of one's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from olmo_core.config.paths import expanded
from olmo_core.corpus.filters.names import check_attribute
from olmo_core.errors import ConfigError
from olmo_core.files import sha256_file

# Taggers of dolma 1.2.1 that were run without network (docs/corpus.md); others fetch models.
OFFLINE_TAGGERS = (
    "c4_v1",
    "c4_v2",
    "char_length_v1",
    "char_length_with_paragraphs_v1",
    "gopher_v1",
    "gopher_v2",
    "not_alphanum_paragraph_v1",
    "pii_regex_v1",
    "pii_regex_v2",
    "pii_regex_with_counts_fast_v2",
    "pii_regex_with_counts_v2",
    "whitespace_tokenizer_v1",
    "whitespace_tokenizer_with_paragraphs_v1",
)


@dataclass(frozen=True, kw_only=True)
class FastText:
    """A fastText classifier as a tagger: one span per label, its score the label's probability.

    Raises:
        ConfigError: a label that a rule cannot name, or one given twice.
    """

    model: str  # a .bin or .ftz file; ~ and ${VARIABLES} are expanded
    labels: tuple[str, ...] = ()  # without `__label__`; default: all of the model's
    unit: Literal["document", "paragraph"] = "document"  # what is classified

    def __post_init__(self) -> None:
        for label in self.labels:
            check_attribute(label, "tagged: fasttext: a label becomes part of an attribute's name")
        if len(set(self.labels)) != len(self.labels):  # each of its spans would count twice
            raise ConfigError(f"tagged: fasttext: labels {list(self.labels)}: one is given twice")


@dataclass(frozen=True, kw_only=True)
class Taggers:
    """Keys of the section `tagged` that say which taggers there are.

    Raises:
        ConfigError: no tagger for a source, an unknown one, or one name for two.
    """

    taggers: Mapping[str, tuple[str, ...]]  # source -> names
    fasttext: Mapping[str, FastText]  # name -> classifier
    # name -> Python file that registers a tagger under it; ~ and ${VARIABLES} are expanded
    own_taggers: Mapping[str, str]

    def __post_init__(self) -> None:
        known = [*OFFLINE_TAGGERS, *self.fasttext, *self.own_taggers]
        twice = sorted({name for name in known if known.count(name) > 1})
        if twice:
            raise ConfigError(f"tagged: {twice}: names of two taggers each; choose others")
        for name in (*self.fasttext, *self.own_taggers):
            check_attribute(name, f"tagged: {name}: becomes part of an attribute's name")
        for source, names in self.taggers.items():
            if not names:
                raise ConfigError(f"tagged: taggers: {source}: empty; name at least one")
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"tagged: taggers: {source}: {name!r} is not known to work offline; "
                        f"expected some of {known}"
                    )

    def files(self) -> dict[str, Path]:
        """Return the file of each tagger that has one.

        Raises:
            ConfigError: there is no such file.
        """
        written = {name: each.model for name, each in self.fasttext.items()}
        found: dict[str, Path] = {}
        for name, text in {**written, **self.own_taggers}.items():
            path, said = expanded(text)
            if not path.is_file():
                key = "fasttext" if name in self.fasttext else "own_taggers"
                raise ConfigError(
                    f"tagged: {key}: {name}: file {text!r} ({said}): expected a file; ~ and "
                    "${VARIABLES} are expanded"
                )
            found[name] = path.absolute()
        return found

    def plan(self) -> dict[str, Any]:
        """Return what a toolkit process registers before it tags."""
        files = {name: str(path) for name, path in self.files().items()}
        return {
            "own": {name: files[name] for name in self.own_taggers},
            "fasttext": {
                name: {"model": files[name], "labels": list(each.labels), "unit": each.unit}
                for name, each in self.fasttext.items()
            },
        }


def taggers_identity(config: Taggers) -> dict[str, Any]:
    """Return the digest of each tagger's file, part of the fingerprint.

    Raises:
        ConfigError: there is no such file.
    """
    digests = {name: sha256_file(path) for name, path in sorted(config.files().items())}
    return {"tagger_files": digests} if digests else {}
