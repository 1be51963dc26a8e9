"""Hostile values work to the letter or are refused by a clear error; no command in them ever runs.

Where a value is taken, what is made of it is given to the real bash.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.assemble import build_graph
from assets.evals.sweep import sweep_work
from assets.execution.produce import launch_of, main_line_work
from assets.launcher import Launch, Refused
from assets.paths import CHECKOUT
from assets.recipe import find_recipes, load_recipe
from olmo_core.config.load import load
from olmo_core.corpus.intake.sources import SourceConfig
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.cli.jobs import require_asset
from pipelines.cli.launch import work_named
from pipelines.launchers.router import Router, site_launcher
from pipelines.places import submitted
from pipelines.site.file import KubernetesSite, ResourceSpec, Site, SlurmSite, load_site
from tests.conftest import toy_graph
from tests.hostile import TEMPLATES, hostile

KUBERNETES = {"image": "olmo", "claim": "results"}
NUMBERS = range(len(TEMPLATES))
each_value = pytest.mark.parametrize("number", NUMBERS, ids=[ascii(v)[:40] for v in TEMPLATES])

SLURM_KEYS = ("partition", "account", "qos", "constraint", "reservation", "container", "python")
SLURM_LISTS = ("modules", "mounts", "pass_environment")
KUBERNETES_KEYS = ("image", "namespace", "context", "claim", "root", "service_account", "queue")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file in a folder of its own; the test fails if it, or anything beside it, appears."""
    folder = tmp_path / "cage"
    folder.mkdir()
    yield folder / "canary"
    assert list(folder.iterdir()) == []


def clear(error: BaseException) -> None:
    """An error that a terminal and a person can take."""
    message = str(error)
    assert message
    assert all(letter.isprintable() for letter in message.replace("\n", "")), message
    assert max(len(line) for line in message.splitlines()) < 1000


def places(value: str) -> list[dict[str, Any]]:
    """Site files with the value in each place that takes a text."""
    files: list[dict[str, Any]] = [{"slurm": {key: value}} for key in SLURM_KEYS]
    files += [{"slurm": {key: [value]}} for key in SLURM_LISTS]
    files += [{"slurm": {"environment": pair}} for pair in ({value: "x"}, {"A": value})]
    files += [{"kubernetes": {**KUBERNETES, key: value}} for key in KUBERNETES_KEYS]
    files += [
        {"kubernetes": {**KUBERNETES, key: pair}}
        for key in ("environment", "node_selector")
        for pair in ({value: "x"}, {"A": value})
    ]
    files += [{"kubernetes": {**KUBERNETES, "secrets": [value]}}]
    files += [{"work": {value: {}}}, {"work": {"train": {"partition": value}}}]
    files += [{"work": {"train": {"engine": value}}}, {value: {}}]
    return files


def texts_of(content: Any) -> Iterator[str]:
    """Every text of nested mappings and lists, keys included."""
    if isinstance(content, dict):
        content = [*content, *content.values()]
    if isinstance(content, list | tuple):
        for entry in content:
            yield from texts_of(entry)
    elif isinstance(content, str):
        yield content


def toy_launch(root: Path) -> Launch:
    return launch_of(main_line_work(toy_graph(), "first", root), root)


def test_there_are_more_than_fifty(canary: Path) -> None:
    assert len(set(hostile(canary))) == len(TEMPLATES) > 50


def test_the_canary_sings(canary: Path) -> None:
    subprocess.run(["bash", "-c", f"true {hostile(canary)[0]}"], check=True)
    assert canary.exists()
    canary.unlink()


@each_value
def test_in_a_site_file(
    number: int,
    canary: Path,
    toy_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = hostile(canary)[number]
    path = tmp_path / "site.yaml"
    monkeypatch.setenv("OLMO_SITE", str(path))
    taken: list[Site] = []
    for content in places(value):
        path.write_text(yaml.safe_dump(content))
        try:
            taken.append(load_site())
        except ConfigError as error:
            clear(error)
    for site in taken:
        assert value in texts_of(asdict(site))
        render(site, toy_root)
    path.write_text(f"slurm:\n  partition: {value}\n", encoding="utf-8")  # as one might type it
    try:
        assert load_site().slurm is not None
    except ConfigError as error:
        clear(error)


def render(site: Site, root: Path) -> None:
    """Have bash parse the script that a site leads to, and YAML the manifests."""
    launch = toy_launch(root)
    for engine in {"slurm", "kubernetes"} & {*site_launcher(site).engines}:
        work: Any = {"engine": engine}
        routed = site_launcher(Site(**{**vars(site), "work": {"first": ResourceSpec(**work)}}))
        if engine == "kubernetes":
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OLMO_ROOT", site.kubernetes.root if site.kubernetes else "")
                try:
                    list(yaml.safe_load_all(routed.dry_run(toy_launch(Path("/olmo")))))
                except ConfigError as error:
                    clear(error)
        else:
            script = routed.dry_run(launch)
            subprocess.run(["bash", "-n"], input=script.encode(), check=True)


def test_values_of_variables_reach_a_slurm_job_to_the_letter(canary: Path, toy_root: Path) -> None:
    wanted = {f"V{number}": value for number, value in enumerate(hostile(canary))}
    taken: dict[str, str] = {}
    for name, value in wanted.items():
        try:
            Site(slurm=SlurmSite(environment={name: value}))
        except ConfigError as error:
            clear(error)
        else:
            taken[name] = value
    assert len(taken) > 40
    slurm = ResourceSpec(engine="slurm")
    launcher = site_launcher(Site(slurm=SlurmSite(environment=taken), work={"first": slurm}))
    script = launcher.dry_run(toy_launch(toy_root))
    assert found_by_bash(script).items() >= taken.items()


def found_by_bash(script: str) -> dict[str, str]:
    """The environment that a batch script hands to its last command."""
    body, last, _ = script.rpartition("\nexec ")
    assert last
    done = subprocess.run(
        ["bash", "-c", f"{body}\nexec env -0"],
        env={"PATH": os.environ["PATH"], "SLURM_CPUS_ON_NODE": "2"},
        capture_output=True,
        check=True,
    )
    entries = done.stdout.decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_values_of_variables_reach_a_pod_to_the_letter(canary: Path, toy_root: Path) -> None:
    taken = [value for value in hostile(canary) if is_taken(value)]
    environment = {f"V{number}": value for number, value in enumerate(taken)}
    site = Site(
        kubernetes=KubernetesSite(
            image="olmo", claim="results", root=str(toy_root), environment=environment
        ),
        work={"first": ResourceSpec(engine="kubernetes")},
    )
    [job] = yaml.safe_load_all(site_launcher(site).dry_run(toy_launch(toy_root)))
    [container] = job["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert {name: as_a_pod_reads(given[name]) for name in environment} == environment


def as_a_pod_reads(value: str) -> str:
    """Kubernetes' own rule: `$$` is a `$`, and `$(NAME)` another variable's value."""
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda found: "$" if found[1] is None else "", value)


def is_taken(value: str) -> bool:
    try:
        Site(slurm=SlurmSite(environment={"A": value}))
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("name", ["$(touch x) 'q' \"d\"", "a\nb", "%j %x", "-rf", "ünï `touch x`"])
def test_a_root_with_such_a_name_works(name: str, canary: Path, toy_root: Path) -> None:
    root = toy_root.parent / name.replace("touch x", f"touch {canary.name}")
    launcher = site_launcher(Site(slurm=SlurmSite(), work={"first": ResourceSpec(engine="slurm")}))
    launch = toy_launch(root)
    script = launcher.dry_run(launch)
    subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    body, _, last = script.rpartition("\nexec ")
    assert last.rstrip().endswith('"$folder"')
    done = subprocess.run(
        ["bash", "-c", f'{body}\nprintf %s "$folder"; pwd >/dev/null'],
        env={"PATH": os.environ["PATH"], "SLURM_CPUS_ON_NODE": "2"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout == str(launch.folder.path)
    assert not (CHECKOUT / canary.name).exists()
    subprocess.run(["bash", "-n"], input=site_launcher(Site()).dry_run(launch).encode(), check=True)


@each_value
def test_as_a_recipe_an_asset_or_a_partition(
    number: int,
    canary: Path,
    toy_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = hostile(canary)[number]
    with pytest.raises(ConfigError) as error:
        load_recipe(value)
    clear(error.value)
    path = tmp_path / "recipes"
    path.mkdir()
    if value not in (".", "..") and re.fullmatch(
        r"[^/\0]{1,60}", value
    ):  # as a folder may be named
        (path / value).mkdir()
        (path / value / "corpus.yaml").write_text("raw: {}\n")
        monkeypatch.setenv("OLMO_RECIPES", str(path))
        assert value in find_recipes()
        with pytest.raises(ConfigError) as error:
            load_recipe(value)
        clear(error.value)
        monkeypatch.delenv("OLMO_RECIPES")
    demo = build_graph(load_recipe("demo"))
    refusals = [
        lambda: demo.select([value]),
        lambda: require_asset("demo", value),
        lambda: work_named(demo, "checkpoint_downstream", value),
        lambda: sweep_work(demo, "checkpoint_downstream", f"stage1@step{value}", toy_root),
    ]
    for refused in refusals:
        with pytest.raises((ConfigError, Refused)) as error:
            refused()
        clear(error.value)
    assert list(submitted(toy_root, value, value)) == []
    assert not toy_root.exists()


@each_value
def test_as_the_name_of_a_source(number: int, canary: Path) -> None:
    value = hostile(canary)[number]
    with pytest.raises(ConfigError) as error:
        SourceConfig(name=value, reader="pydoc_topics")
    clear(error.value)


@each_value
def test_in_a_recipes_yaml(number: int, canary: Path, tmp_path: Path) -> None:
    """A tag of YAML's that would make an object, or run something, is an error."""
    value = hostile(canary)[number]
    path = tmp_path / "x.yaml"
    for text in (f"a: {value}\n", f"{value}: a\n", f"a: [{value}]\n", value):
        path.write_bytes(text.encode())
        try:
            load(path)
        except ConfigError as error:
            clear(error)


def test_run_folders_of_a_local_job_stay_under_the_root(toy_root: Path) -> None:
    launch = toy_launch(toy_root)
    assert launch.folder.path.is_relative_to(toy_root)
    assert isinstance(launch.folder, RunFolder)
    assert isinstance(site_launcher(Site()), Router)
