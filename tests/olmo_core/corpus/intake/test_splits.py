"""Subsets and splits of a dataset are the files that the library `datasets` takes for them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets.data_files import get_data_patterns, resolve_pattern, sanitize_patterns
from datasets.utils.metadata import MetadataConfigs

from olmo_core.corpus.intake.splits import chosen_files
from olmo_core.errors import ConfigError, InputError

LAYOUTS = {
    "sharded": [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002-ab12.parquet",
        "data/my.own-00000-of-00001.jsonl.gz",
        "data/test-1-of-2.parquet",
        "other/train-00000-of-00001.parquet",
    ],
    "folders": [
        "train/a.jsonl",
        "deep/my-valid 2/b/c.jsonl",
        "deep/testing/c.jsonl",
        "training_x/d.jsonl",
        "constraint/test.jsonl",
    ],
    "files": ["train.jsonl", "a/my_dev-1.jsonl", "a/eval 3.jsonl", "trainer.jsonl", "x/test1.gz"],
    "nothing": ["one.jsonl", "two/three.jsonl", "strain.jsonl", "README.md", "x/config.json"],
    "hidden": [".train/a.jsonl", "__train__/b.jsonl", ".c.jsonl", "d.jsonl"],
    "card": ["README.md", "en/a.jsonl", "en/b/c.jsonl", "de/train-0.jsonl", "de/.d.jsonl", "e.txt"],
}
CARD = """---
license: odc-by
configs:
- config_name: en
  data_files: [{split: train, path: "en/*"}, {split: more, path: ["en/**", "e.txt"]}]
  default: true
- config_name: de
  data_dir: de
- config_name: hidden
  data_files: "**/.d.jsonl"
- config_name: all
  data_files: ["**"]
---
# About it
"""


def theirs(folder: Path, row: dict[str, Any]) -> dict[str, list[str]]:
    """What `datasets` makes of a subset: paths by split."""
    base = str(folder / row.get("data_dir", ""))
    given = row.get("data_files")
    patterns = sanitize_patterns(given) if given else get_data_patterns(base)
    found: dict[str, list[str]] = {}
    for split, each in patterns.items():
        files = {
            Path(path).relative_to(folder).as_posix()
            for pattern in each
            for path in _resolved(str(pattern), base)
        }
        found[str(split)] = sorted(files)
    return found


def _resolved(pattern: str, base: str) -> list[str]:
    try:
        return resolve_pattern(pattern, base)
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_those_of_the_library(files: Any, tmp_path: Path, layout: str) -> None:
    names = LAYOUTS[layout]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    card = CARD if layout == "card" else ""
    rows: list[dict[str, Any]] = yaml.safe_load(card.split("---")[1])["configs"] if card else [{}]
    if card:
        configs = MetadataConfigs({row["config_name"]: row for row in rows})
        assert configs.get_default_config_name() == "en"
    for row in rows:
        expected = theirs(tmp_path, row)
        assert expected
        for split, paths in expected.items():
            source = dataset(files, subset=row.get("config_name", ""), split=split)
            assert chosen_files(source, names, card, "here") == paths, (row, split)
        source = dataset(files, subset=row.get("config_name", ""), split="none")
        with pytest.raises(InputError, match=r"^here: no split 'none'; found \['") as raised:
            chosen_files(source, names, card, "here")
        assert all(repr(split) in str(raised.value) for split in expected)


def dataset(files: Any, **changes: Any) -> Any:
    settings = {"reader": "huggingface", "dataset": "some/set", "revision": "0" * 40}
    return files("", **{**settings, **changes})


def test_without_a_subset_the_default_one_is_meant(files: Any) -> None:
    names = LAYOUTS["card"]
    assert chosen_files(dataset(files, split="train"), names, CARD, "") == ["en/a.jsonl"]
    everything = ["e.txt", "en/a.jsonl", "en/b/c.jsonl"]
    assert chosen_files(dataset(files, subset="en"), names, CARD, "") == everything
    several = CARD.replace("default: true", "")
    with pytest.raises(InputError, match=r"no default among them; name one of \['all', 'de', 'en'"):
        chosen_files(dataset(files, split="train"), names, several, "")


@pytest.mark.parametrize(
    ("card", "subset", "says"),
    [
        (CARD, "fr", r"no subset 'fr'; its card names \['all', 'de', 'en', 'hidden'\]"),
        ("# no card", "fr", r"no subset 'fr'; its card names none"),
        ("---\nconfigs: {}\n---\n", "en", r"`configs` is \{\}; expected a list"),
        ("---\nconfigs: [en]\n---\n", "en", r"`configs` is \['en'\]; expected a list"),
        ("---\n\tconfigs: []\n---\n", "en", r"begins with what is no YAML"),
        (CARD.replace('"en/*"', "3"), "en", r"`data_files` has .*'path': 3\}; expected each split"),
        (CARD.replace('"en/*"', '"hf://a/b"'), "en", r"`data_files` has .*hf://a/b'\}; expected"),
        (CARD.replace("more", "train"), "en", r"`data_files` has .*; expected each split once"),
        (CARD.replace("data_dir: de", "data_dir: fr"), "de", r"subset 'de', split '': no file is"),
    ],
)
def test_a_card_that_does_not_say_it_is_refused(
    files: Any, card: str, subset: str, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        chosen_files(dataset(files, subset=subset), LAYOUTS["card"], card, "here")


@pytest.mark.parametrize("changes", [{"split": "train"}, {"subset": "en"}])
def test_files_are_named_in_one_way(files: Any, changes: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="mine: `data_files` beside `subset` or `split`; expecte"):
        dataset(files, data_files=("*",), **changes)
    with pytest.raises(ConfigError, match="and no other reader does"):
        files("/", **changes)
