"""`${…}`: what OmegaConf makes of it (the values are those of OmegaConf 2.4), and every mistake.

The expressions are those of the official files and of what users write beside them.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from olmo_core.config.interpolation import interpolate
from olmo_core.config.load import apply_override, parse
from olmo_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Model:
    d_model: int = 768
    n_layers: int = 12


@dataclass(frozen=True, kw_only=True)
class Schema:
    run_name: str | None = None
    microbatch: int = 16
    model: Model = field(default_factory=Model)


FILE = """\
run_name: OLMo-1B
save_interval: 1000
model:
  d_model: 2048
  width: ${model.d_model}
lists:
  - first
  - ${run_name}-${save_interval}
name: run_name
job: ${value}
"""


def resolve(expression: str, *overrides: str, dry: bool = False) -> Any:
    tree = parse(FILE.replace("${value}", expression), file="f.yaml")
    for override in overrides:
        apply_override(tree, override)
    return interpolate(tree, root=tree, schema=Schema, dry=dry)["job"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SCRATCH_DIR", "CHECKPOINTS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_PATH", "/data")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("${save_interval}", 1000),  # a whole value keeps its type
        ("runs/${run_name}", "runs/OLMo-1B"),
        ("${run_name}/${model.d_model}/x", "OLMo-1B/2048/x"),
        ("${model.width}", 2048),  # an interpolation behind an interpolation
        ("${model}", {"d_model": 2048, "width": 2048}),
        ("${lists[1]}", "OLMo-1B-1000"),
        ("${lists.0}", "first"),
        ("${${name}}", "OLMo-1B"),  # a key by its name
        ("${microbatch}", 16),  # left out: the schema's default
        ("${model.n_layers}", 12),
        ("${oc.env:DATA_PATH}", "/data"),
        ("${oc.env:DATA_PATH}/v1/*.npy", "/data/v1/*.npy"),
        ("${oc.env:SLURM_JOB_ID,${run_name}}", "OLMo-1B"),
        ("${oc.env:SLURM_JOB_ID,null}", None),
        ("${oc.env:SLURM_JOB_ID,'a, b'}", "a, b"),
        ("${oc.env:SLURM_JOB_ID,''}${model.width}", "2048"),  # a text of two parts, one empty
        ("'plain $x {y}'", "plain $x {y}"),
        ("'\\${run_name}'", "${run_name}"),
    ],
)
def test_values(expression: str, value: Any) -> None:
    assert resolve(expression) == value


def test_overrides_take_part() -> None:
    assert resolve("runs/${run_name}", "run_name=other") == "runs/other"
    assert resolve("x", "job=${model.d_model}", "--model.d_model=64") == 64


def test_a_default_is_looked_at_only_when_it_is_needed() -> None:
    assert resolve("${oc.env:DATA_PATH,${nowhere}}") == "/data"


def test_only_what_is_kept_is_resolved() -> None:
    kept = parse("save: ${save_interval}", file="f")
    root = parse("save_interval: 3\nevaluators: ${oc.env:CHECKPOINTS_PATH}", file="f")
    assert interpolate(kept, root=root, schema=Schema) == {"save": 3}
    with pytest.raises(ConfigError, match="CHECKPOINTS_PATH"):
        interpolate(root, root=root, schema=Schema)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("${run_nam}", r"f\.yaml:10: job: \$\{run_nam\}: no such key; did you mean 'run_name'"),
        ("${model.d_modle}", r"no such key; did you mean 'model\.d_model'"),
        ("${lists[7]}", "no such key"),
        ("${job}", r"f\.yaml:10: job: refers to itself: job -> job"),
        ("a/${model.width}", None),
        ("x${lists}", "a part of a text cannot be"),
        ("a/${run_name", r"'a/\$\{run_name': "),
        ("${.d_model}", "expected a whole key"),
        ("${oc.evn:DATA_PATH}", r"unknown resolver 'oc\.evn'; did you mean 'oc\.env'"),
        ("${oc.env:CHECKPOINTS_PATH}/x", "CHECKPOINTS_PATH is not set"),
        ("${path.choose:/no/a,/no/b}", "none of these exists: /no/a, /no/b"),
        ("${path.glob:/no/*.npy}", r"no file matches /no/\*\.npy"),
        ("${path.last_checkpoint:/no}", "no checkpoint"),
        ("${path.last_checkpoint:s3://a/b}", "cannot be searched"),
    ],
)
def test_mistakes_are_named(expression: str, message: str | None) -> None:
    if message is None:
        assert resolve(expression) == "a/2048"
        return
    with pytest.raises(ConfigError, match=message):
        resolve(expression)


def test_a_circle_is_shown() -> None:
    tree = parse("a: ${b.c}\nb: {c: 'x${d}'}\nd: ${a}", file="f")
    with pytest.raises(ConfigError, match=r"refers to itself: a -> b\.c -> d -> a"):
        interpolate(tree, root=tree, schema=Schema)


def test_path_choose_takes_the_first_that_exists_and_trusts_addresses(tmp_path: Path) -> None:
    assert resolve(f"${{path.choose:/no/a,{tmp_path}}}/x") == f"{tmp_path}/x"
    assert resolve(f"${{path.choose:s3://bucket/a,{tmp_path}}}") == "s3://bucket/a"


def test_path_last_checkpoint_is_the_highest_step_sharded_first(tmp_path: Path) -> None:
    run, own = tmp_path / "official", tmp_path / "own"
    for name in ("step9", "step10-unsharded", "step10", "step11.tmp", "step12-corrupt", "latest"):
        (run / name).mkdir(parents=True)
    (run / "step99").write_text("a file")
    assert resolve(f"${{path.last_checkpoint:{run}}}") == str(run / "step10")
    (own / "checkpoints" / "step7").mkdir(parents=True)
    assert resolve(f"${{path.last_checkpoint:{own}}}") == str(own / "checkpoints" / "step7")


def test_path_glob_is_a_sorted_list(tmp_path: Path) -> None:
    for name in ("b.npy", "a.npy", "c.txt"):
        (tmp_path / name).touch()
    expected = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    assert resolve(f"${{path.glob:{tmp_path}/*.npy}}") == expected


def test_a_dry_run_looks_nowhere_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chosen = "${path.choose:${oc.env:SCRATCH_DIR,no_exist}/checkpoints,/results}/${run_name}"
    assert resolve(chosen, dry=True) == "no_exist/checkpoints/OLMo-1B"
    last = "${path.last_checkpoint:/no}"
    assert resolve(last, dry=True) == last
    assert resolve("${path.glob:/no/*}", dry=True) == ["${path.glob:/no/*}"]
    variable = "${oc.env:CHECKPOINTS_PATH}/a"
    assert resolve(variable, dry=True) == variable
    assert "took the first, no_exist/checkpoints" in caplog.text
    assert "CHECKPOINTS_PATH is not set" in caplog.text
