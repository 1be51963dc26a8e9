"""The site file: what it may say, and how it is told what is wrong in it."""

from dataclasses import replace
from pathlib import Path

import pytest

from assets.launcher import Launch
from assets.paths import CHECKOUT
from olmo_core.errors import ConfigError
from olmo_core.run.folder import RunFolder
from pipelines.launchers.router import site_launcher
from pipelines.site.file import KubernetesSite, ResourceSpec, Site, SiteError, SlurmSite, load_site


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.yaml"
    monkeypatch.setenv("OLMO_SITE", str(path))
    return path


def launch(recipe: str, asset: str, stage: str) -> Launch:
    return Launch(
        folder=RunFolder(Path("x")),
        module="m",
        stage=stage,
        config={},
        identity={"recipe": recipe, "asset": asset},
        distributed=stage == "train",
        shares_tasks=stage == "corpus",
    )


def test_without_a_file_everything_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLMO_SITE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_site() == Site()
    assert load_site().work_of(launch("demo", "stage1", "train")) == ResourceSpec()


def test_a_file_that_is_named_and_not_there_is_an_error(site_file: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_site()


def test_the_example_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLMO_SITE", str(CHECKOUT / "docs" / "site.yaml"))
    site = load_site()
    assert site.work_of(launch("olmo2_32b", "stage1", "train")).nodes == 128
    assert site.work_of(launch("olmo2_7b", "stage1", "train")).nodes == 2
    assert site.work_of(launch("demo", "downstream", "evals")).engine == "kubernetes"
    assert site.work_of(launch("demo", "model_card", "release")).engine == "local"
    assert site.energy.watts_per_device == 400


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("watts_per_device", 0, "a number above 0, or null"),
        ("pue", 0.9, "1 or more, or null"),
        ("carbon_intensity_kg_per_kwh", -1, "0 or more, or null"),
    ],
)
def test_energy_that_cannot_be_is_refused(
    site_file: Path, key: str, value: float, expected: str
) -> None:
    site_file.write_text(f"energy:\n  {key}: {value}\n")
    with pytest.raises(ConfigError, match=rf"site\.yaml:2: energy\.{key} is .*{expected}"):
        load_site()


def test_one_process_takes_one_node_and_only_shared_tasks_get_workers() -> None:
    shape = ResourceSpec(engine="slurm", nodes=4, processes_per_node=8, workers=3)
    site = Site(slurm=SlurmSite(), work={"train": shape, "corpus": shape})
    training, corpus = launch("a", "stage1", "train"), launch("a", "tokens", "corpus")
    assert site.work_of(training) == replace(shape, workers=0)
    assert site.work_of(corpus) == replace(shape, nodes=1, processes_per_node=1)
    alone = replace(shape, nodes=1, processes_per_node=1, workers=0)
    assert site.work_of(replace(corpus, shares_tasks=False)) == alone


def test_the_narrowest_name_wins() -> None:
    work = {
        name: ResourceSpec(cpus_per_node=n) for n, name in enumerate(("train", "soup", "a/soup"), 1)
    }
    site = Site(work=work)
    found = [site.work_of(launch(recipe, "soup", "train")).cpus_per_node for recipe in ("a", "b")]
    assert found == [3, 2]
    assert site.work_of(launch("a", "stage1", "train")).cpus_per_node == 1


SHARING = (
    "of stage corpus, raw, near_duplicates, held_out, tagged, deduplicated, decontaminated, "
    "filtered, tokenizer, tokens, documents share tasks with workers"
)
WRONG = [
    ("slurn: {}", ":1: slurn: unknown key; did you mean 'slurm'?"),
    ("slurm:\n  acount: x", ":2: slurm.acount: unknown key; did you mean 'account'?"),
    ("slurm:\n  account: a b", ":2: slurm.account: found 'a b'; expected one name of letters"),
    ("slurm:\n  modules: [a, 'b;c']", ":2: slurm.modules[1]: found 'b;c'; expected a module's"),
    ("slurm:\n  mounts: ['/a:b']", ":2: slurm.mounts[0]: found '/a:b'; expected SOURCE:TARGET"),
    ("slurm:\n  mounts: ['/a/..:/b']", ":2: slurm.mounts[0]: found '/a/..:/b'; .. may not"),
    ("slurm:\n  signal_seconds: 1", ":2: slurm.signal_seconds: found 1; expected 10 to 65,535"),
    ("slurm:\n  poll_seconds: .nan", ":2: slurm.poll_seconds: found nan; expected 0.1 to"),
    ("slurm:\n  pass_environment: [A=1]", ":2: slurm.pass_environment[0]: found 'A=1'; expected"),
    ("slurm:\n  environment:\n    A B: x", ":3: slurm.environment.'A B': found 'A B'; expected"),
    ("slurm:\n  environment:\n    A: 1", ":3: slurm.environment.A: expected a text, found 1"),
    ('slurm:\n  environment:\n    A: "x\\ny"', ":3: slurm.environment.A: found 'x\\ny'; expected"),
    ("kubernetes:\n  image: x", ": kubernetes.claim: key missing"),
    ("kubernetes: {image: x, claim: X_y}", ":1: kubernetes.claim: found 'X_y'; expected small"),
    ("work:\n  train:\n    engine: slrm", ":3: work.train.engine: 'slrm' is not one of 'local', "),
    (
        "work:\n  train:\n    engine: slurm",
        ":3: work.train.engine: found 'slurm', but the file has",
    ),
    ("work:\n  train:\n    nodes: 2", ":3: work.train.nodes: found 2; the local engine is one"),
    ("work:\n  train:\n    nodes: 0", ":3: work.train.nodes: found 0; expected 1 to"),
    (
        "work:\n  train:\n    stall_timeout_minutes: 0",
        ":3: work.train.stall_timeout_minutes: found 0.0; expected",
    ),
    ("work:\n  train:\n    memory_gib_per_node: 64G", "expected a whole number, found '64G'"),
    ("work:\n  train:\n    time_limit_minutes: 24:00:00", ":3: 24:00:00: YAML reads this to the"),
    ("work:\n  train: {processes_per_node: 8, devices_per_node: 4}", "one rank per device"),
    ("work:\n  corpus:\n    workers: 2", ":3: work.corpus.workers: found 2, but engine is 'local'"),
    ("work:\n  corpus:\n    workers: 500", ":3: work.corpus.workers: found 500; expected 0 to 256"),
    (
        "dask:\n  address: tcp://scheduler.example.org:8786",
        ":2: dask.address: found 'tcp://scheduler.example.org:8786', over which anybody",
    ),
    (
        "dask: {address: 'tls://s:1'}\nslurm: {}\nwork:\n  tokens: {engine: slurm, workers: 2}",
        ":4: work.tokens.workers: found 2, but tasks go to the cluster of dask.address",
    ),
    ("dask: {address: 'http://s:1'}", ":1: dask.address: found 'http://s:1'"),
    (
        "slurm: {}\nwork:\n  train: {engine: slurm, workers: 2}",
        f":3: work.train.workers: found 2; expected 0: {SHARING}",
    ),
    (
        "slurm: {}\nwork:\n  stage1_mix:\n    engine: slurm\n    workers: 2",
        f":5: work.stage1_mix.workers: found 2; expected 0: {SHARING}",
    ),
    (
        "slurm: {}\nwork:\n  demo/soup: {engine: slurm, workers: 2}",
        f":3: work.demo/soup.workers: found 2; expected 0: {SHARING}",
    ),
    ("work:\n  trian: {}", ":2: work.trian: no stage and no asset 'trian'; did you mean 'train'?"),
    ("work:\n  stage11: {}", ":2: work.stage11: no stage and no asset 'stage11'; did you mean 'st"),
    ("work:\n  dmo/stage1: {}", ":2: work.dmo/stage1: no recipe 'dmo' on the search path; did you"),
    ("work:\n  demo/sup: {}", ":2: work.demo/sup: demo has no asset 'sup'; did you mean 'soup'?"),
    ("work: [train]", ":1: work: expected a mapping of keys, found ['train']"),
    ("x", ": expected a mapping of keys, found str"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_is_named_with_its_line(site_file: Path, text: str, message: str) -> None:
    site_file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_site()
    assert message in str(error.value)
    assert str(error.value).startswith(str(site_file))


def test_all_that_is_wrong_is_named_at_once(site_file: Path) -> None:
    site_file.write_text("slurm:\n  account: a b\n  qos: c d\nwork:\n  train: {nodes: 0}\n")
    with pytest.raises(ConfigError) as error:
        load_site()
    lines = str(error.value).splitlines()
    assert [line.partition(".yaml")[2][:3] for line in lines] == [":2:", ":3:", ":5:"]


def test_workers_are_for_the_corpus(site_file: Path) -> None:
    names = ("corpus", "tokens", "demo/tagged")
    shapes = "".join(f"\n  {name}: {{engine: slurm, workers: 3}}" for name in names)
    site_file.write_text(f"slurm: {{}}\nwork:{shapes}")
    assert load_site().work_of(launch("demo", "tokens", "corpus")).workers == 3


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "HF_TOKEN", "PGPASSWORD", "aws_secret", "A_KEY_B"]
)
@pytest.mark.parametrize(
    "section",
    [
        "slurm: {environment: {%s: canary}}",
        "kubernetes: {image: x, claim: y, environment: {%s: canary}}",
    ],
)
def test_a_secret_is_refused_without_being_repeated(
    site_file: Path, section: str, name: str
) -> None:
    site_file.write_text(section % name)
    with pytest.raises(ConfigError, match="belongs in no file") as error:
        load_site()
    assert ("pass_environment" if section.startswith("slurm") else "secrets") in str(error.value)
    assert "canary" not in str(error.value)


def test_a_password_in_an_address_is_refused(site_file: Path) -> None:
    site_file.write_text("slurm: {environment: {https_proxy: 'http://me:canary@proxy:3128'}}")
    with pytest.raises(ConfigError, match="holds a password") as error:
        load_site()
    assert "canary" not in str(error.value)


def test_what_only_looks_like_a_secret_is_taken() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "false", "MONKEYS": "x", "PROXY": "http://proxy:3128"}
    assert SlurmSite(environment=environment).environment == environment
    Site(slurm=SlurmSite(environment=environment))


def test_a_site_made_in_python_is_held_to_the_same_rules() -> None:
    with pytest.raises(SiteError, match=r"slurm\.partition: found 'a b'"):
        Site(slurm=SlurmSite(partition="a b"))
    with pytest.raises(SiteError, match=r"kubernetes\.root: found 'x'; expected an absolute path"):
        Site(kubernetes=KubernetesSite(image="x", claim="y", root="x"))


def test_a_job_that_shares_tasks_is_told_of_the_cluster(site_file: Path, tmp_path: Path) -> None:
    site_file.write_text(
        "dask: {address: 'tcp://s:1', allow_unencrypted: true, dashboard_port: 8787}\n"
        "slurm: {}\nwork:\n  tokens: {engine: slurm}\n"
    )
    given = Launch(
        folder=RunFolder(tmp_path / "run"),
        module="olmo_core.corpus.tokens.tokens",
        stage="corpus",
        config={},
        identity={"recipe": "demo", "asset": "tokens"},
    )
    router = site_launcher()
    assert "OLMO_DASK" not in router.dry_run(given)
    said = router.dry_run(replace(given, shares_tasks=True))
    assert "export OLMO_DASK_ADDRESS=tcp://s:1\n" in said
    assert "export OLMO_DASK_DASHBOARD=8787\n" in said
