"""The configuration loader: what it coerces, and that every mistake names its place."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from olmo_core.config.load import Tree, apply_override, build, load, parse, to_dict
from olmo_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Train:
    optimizer: Optimizer
    max_duration: int | str = 10
    order: Literal["olmo", "feistel"] = "olmo"
    paths: list[Path] = field(default_factory=list)
    evaluators: dict[str, Optimizer] = field(default_factory=dict)
    limit: int | None = None
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: must be at least 1, found {self.limit}")


def overridden(text: str, *overrides: str) -> Tree:
    tree = parse(text, file="f.yaml")
    for override in overrides:
        apply_override(tree, override)
    return tree


def test_numbers_that_pyyaml_reads_as_text_are_coerced() -> None:
    config = build(Train, parse("optimizer: {learning_rate: 3e-4}\nlimit: 5e1\n"))
    assert config.optimizer.learning_rate == 3e-4
    assert config.limit == 50
    assert config.optimizer.betas == (0.9, 0.95)


def test_a_duration_in_tokens_stays_text() -> None:
    config = build(Train, parse("optimizer: {learning_rate: 1}\nmax_duration: 50e9T\n"))
    assert config.max_duration == "50e9T"


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("optimizer: {learning_rat: 1}", r"f\.yaml:1: optimizer\.learning_rat: unknown key; did "),
        ("optimizer: {learning_rate: 1}\nLIMIT: 1", r"f\.yaml:2: LIMIT: .*did you mean 'limit'\?"),
        ("optimizer:\n  learning_rate: high", r"f\.yaml:2: .*expected a number, found 'high'"),
        ("optimizer: {learning_rate: 1}\nlimit: 1.5", r"f\.yaml:2: limit: expected a whole number"),
        ("optimizer: {learning_rate: 1}\nlimit: 0", r"f\.yaml:2: limit: must be at least 1"),
        ("optimizer: {learning_rate: 1}\nlimit: true", r"limit: expected a whole number"),
        ("optimizer: {learning_rate: 1}\nshuffle: 1", r"shuffle: expected true or false"),
        ("optimizer: {learning_rate: 1}\norder: x", r"order: 'x' is not one of 'olmo', 'feistel'"),
        ("optimizer: {learning_rate: 1}\npaths: a", r"paths: expected a list, found 'a'"),
        ("optimizer: {betas: [1, 2, 3], learning_rate: 1}", r"expected 2 values, found 3"),
        ("optimizer: 3", r"f\.yaml:1: optimizer: expected a mapping of keys, found 3"),
        ("limit: 1", r"f\.yaml: optimizer: key missing"),
        ("limit: 1\nlimit: 2", r"f\.yaml:2: key 'limit' is given twice"),
        ("a: [", r"f\.yaml:\d: not valid YAML"),
        ("a: [1,\n", r"f\.yaml:\d: not valid YAML"),
        ("optimizer:\n\tlearning_rate: 1", r"f\.yaml:2: not valid YAML: a tab; .* by spaces"),
        ("- 1", r"f\.yaml: expected a mapping of keys, found list"),
        ("evaluators: {x: {learning_rat: 1}}\noptimizer: {learning_rate: 1}", r":1: evaluators\.x"),
    ],
)
def test_a_mistake_names_file_line_and_key(yaml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Train, parse(yaml, file="f.yaml"))


def test_overrides_are_dotted_with_or_without_dashes() -> None:
    tree = overridden(
        "optimizer: {learning_rate: 1}\n",
        "--optimizer.learning_rate=2e-3",
        "paths=[a, b]",
        "--evaluators.x.learning_rate=1",
        "--shuffle",
    )
    config = build(Train, tree)
    assert config.optimizer.learning_rate == 2e-3
    assert config.paths == [Path("a"), Path("b")]
    assert config.evaluators["x"].learning_rate == 1.0
    assert config.shuffle is True


@pytest.mark.parametrize(
    "override", ["limit", "=3", "--", "optimizer.learning_rate.x=1", "limit=[1"]
)
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        overridden("optimizer: {learning_rate: 1}\n", override)


def test_a_configuration_survives_the_round_trip(tmp_path: Path) -> None:
    config = build(Train, parse("optimizer: {learning_rate: 1}\npaths: [x]\norder: feistel\n"))
    assert build(Train, to_dict(config)) == config


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 3"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize("text", ["a: b\0", "a: " + "[" * 3000 + "]" * 3000])
def test_what_yaml_cannot_read_names_the_file(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: not valid YAML"):
        parse(text, file="f.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)


def test_a_mapping_from_an_override_is_named_by_it() -> None:
    with pytest.raises(ConfigError, match=r"^override optimizer:1: optimizer\.x: unknown key"):
        build(Train, overridden("limit: 1", "optimizer={x: 1}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--limi=3", r"^override: limi: unknown key; did you mean 'limit'\?"),
        ("optimizer.learning_rat=1", r"^override: optimizer\.learning_rat: unknown key"),
        ("optimizer.learning_rate=high", r"^override: optimizer\.learning_rate: expected a number"),
        ("limit=0", r"^override: limit: must be at least 1"),
        ("evaluators.x.learning_rat=1", r"^override: evaluators\.x\.learning_rat: unknown key"),
    ],
)
def test_a_mistake_of_the_command_line_is_not_looked_for_in_the_file(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Train, overridden("optimizer: {learning_rate: 1}\nlimit: 1", override))
