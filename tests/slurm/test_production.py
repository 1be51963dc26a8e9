"""A production whose jobs are the cluster's: workers killed, a training watched and ended."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster import DagsterEventType
from playwright.sync_api import Locator, Page, expect

from assets.evals.sweep import SWEEP, sweep_work
from assets.graph import Graph
from tests.integration.conftest import OLMO, RECIPES
from tests.integration.test_ui import opened_page
from tests.pipelines.conftest import production_environment
from tests.pipelines.evaluations import MODULE, save_checkpoints, sweep_graph
from tests.pipelines.kills import CANCEL_SECONDS, are_gone, kill_and_finish, members
from tests.pipelines.postgres import running_postgres
from tests.pipelines.production import ALL, Production, in_production, wait_for
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import set_up
from tests.slurm.table import TABLE
from tests.slurm.training_graph import DEFINITIONS, STEPS, prepare, training_graph

pytestmark = pytest.mark.slurm

MOST_SECONDS = 15.0  # after the worker's start: before the submission, in it, in the queue, at work
MOMENTS = 10
BYSTANDER = 11  # the toy graph whose job nothing may happen to
PACE_SECONDS = 1.0
ADDRESS = "https://wandb.example/olmo/runs/1"
CHECKPOINTS = 5
# As the UI's dialog "Launch backfill" asks for it.
BACKFILL = """
mutation Backfill($partitions: [String!]!) {
  launchPartitionBackfill(backfillParams: {
    assetSelection: [{path: ["swept", "checkpoint_downstream"]},
                     {path: ["swept", "checkpoint_perplexity"]}]
    partitionNames: $partitions
  }) { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } }
}
"""


@pytest.fixture(scope="module")
def production(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """Dagster's services, whose site sends the toy graphs and the training to the cluster."""
    folder = tmp_path_factory.mktemp("production")
    site = {
        "slurm": {
            "poll_seconds": 1.0,
            "signal_seconds": 30,
            "pass_environment": ["PYTHONPATH", "TOY_GATES", "WANDB_MODE"],
        },
        "work": {
            "corpus": {"engine": "slurm", "cpus_per_node": 1},
            "train": {"engine": "slurm", "nodes": 2, "cpus_per_node": 1},
            "evals": {"engine": "slurm", "cpus_per_node": 1},
        },
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    with production_environment(folder, DEFINITIONS) as patch, running_postgres() as server:
        set_up(patch, cluster)
        own = {"OLMO_SITE": str(folder / "site.yaml"), "WANDB_MODE": "offline"}
        for name, value in {**server.environment, **own}.items():
            patch.setenv(name, value)
        with in_production(folder, server) as made:
            made.start(*ALL)
            yield made


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened_page() as opened:
        yield opened


@pytest.fixture(scope="module")
def graph(production: Production) -> Graph:
    made = training_graph()
    prepare(made.folder(production.root, "stage1"), pace_seconds=PACE_SECONDS)
    return made


@pytest.fixture(scope="module")
def bystander(production: Production) -> Iterator[None]:
    """Another job of the same user, which goes on to its end whatever becomes of others."""
    run = production.launch(BYSTANDER)
    job = members(production, BYSTANDER)
    yield
    assert not any(are_gone([process]) for process in job)
    production.open_gate(BYSTANDER)
    production.wait_status(run, "SUCCESS")
    assert production.starts(BYSTANDER)["first"] == "x"


@pytest.mark.parametrize(
    "moments", [1, pytest.param(MOMENTS, marks=pytest.mark.drill)], ids=["one", "all"]
)
def test_a_worker_killed_at_random_moments_is_replaced_and_its_job_run_once(
    production: Production, cluster: Cluster, moments: int
) -> None:
    times: list[str] = []
    for moment in range(moments):
        number = moment if moments == MOMENTS else MOMENTS
        seconds = random.Random(number).uniform(0, MOST_SECONDS)
        kill_and_finish(production, number, seconds=seconds)
        names = Path(cluster.folder, "log/jobcomp.log").read_text().count(f"olmo.toy{number}.first")
        assert names == 1
        times.append(f"{seconds:.0f}")
    TABLE.add(
        f"run worker SIGKILLed at {moments} random moments",
        "job untouched, found again, submitted once, result equal",
        f"{moments} of {moments}, after {', '.join(times)} s",
    )


@pytest.mark.slow
def test_a_backfill_is_one_run_and_an_array_of_each_evaluation(
    production: Production, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.evals.sweep.MODULE", MODULE)
    swept = sweep_graph("swept")
    keys = [f"stage1@step{number}" for number in range(1, CHECKPOINTS + 1)]
    save_checkpoints(swept, production.root, keys)
    production.instance.add_dynamic_partitions("swept_checkpoints", keys)
    answer = production.graphql(BACKFILL, partitions=keys)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    tags = {"dagster/backfill": answer["backfillId"]}
    assets = [dg.AssetKey(["swept", name]) for name in SWEEP]
    wait_for(
        lambda: all(
            production.instance.get_materialized_partitions(asset) == {*keys} for asset in assets
        ),
        "the last partition",
    )
    [run] = production.instance.get_runs(dg.RunsFilter(tags=tags))
    production.wait_status(run.run_id, "SUCCESS")
    works = [sweep_work(swept, name, key, production.root) for name in SWEEP for key in keys]
    runs = [work.finished() for work in works]
    jobs = [str((one.read(one.launch) or {})["job_id"]) for one in runs if one is not None]
    arrays = {job.partition("_")[0] for job in jobs}
    assert (len(jobs), len(arrays)) == (len(works), len(SWEEP))
    TABLE.add(
        f"a backfill over {len(keys)} checkpoints",
        "one run; an array of each evaluation; each partition reported",
        f"1 run, {len(arrays)} arrays of {len(keys)} tasks, {len(jobs)} partitions reported",
    )


@pytest.mark.browser
@pytest.mark.slow
def test_a_training_shows_how_it_goes_and_a_click_ends_it_on_both_nodes(
    page: Page, production: Production, cluster: Cluster, graph: Graph, bystander: None
) -> None:
    run = production.launch_job("tiny")
    seen = observed(production, run, "loss")
    assert "running on n" in str(seen["state"].value)
    page.goto(f"http://127.0.0.1:{production.web_port}/assets/tiny/stage1")
    expect(entry(page, "progress")).to_contain_text(f"of {STEPS:,} steps, loss")
    for name in ("state", "step", "loss", "tokens_per_second", "time_remaining"):
        expect(entry(page, name)).to_contain_text(str(seen[name].value).removesuffix(".0"))
    expect(entry(page, "wandb")).to_contain_text("offline; to send it: wandb sync")
    entry(page, "log_end").get_by_text("Show Markdown").click()
    expect(page.get_by_role("dialog").get_by_text("loss").first).to_be_visible()

    job = job_on_two_nodes(production, cluster, graph)
    page.goto(f"http://127.0.0.1:{production.web_port}/runs/{run}")
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").last.click()
    began = time.monotonic()
    wait_for(lambda: not cluster.processes(job), "the job's end", CANCEL_SECONDS)
    took = time.monotonic() - began
    production.wait_status(run, "CANCELED")
    TABLE.add(
        "a click on Terminate, training over 2 nodes",
        "no process left after 10 s; a bystander lives",
        f"none after {took:.1f} s; it lived",
    )


@pytest.mark.browser
@pytest.mark.slow
def test_olmo_cancel_ends_a_training_on_both_nodes(
    page: Page, production: Production, cluster: Cluster, graph: Graph, bystander: None
) -> None:
    (graph.folder(production.root, "stage1") / "wandb_url").write_text(ADDRESS)
    run = production.launch_job("tiny")
    observed(production, run, "loss")
    page.goto(f"http://127.0.0.1:{production.web_port}/assets/tiny/stage1")
    link = entry(page, "wandb").get_by_role("link", name=ADDRESS)
    expect(link).to_have_attribute("href", ADDRESS)
    job = job_on_two_nodes(production, cluster, graph)
    [folder] = graph.unfinished(production.root, "stage1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLMO_RECIPES", str(RECIPES))
        cancelling = subprocess.Popen([str(OLMO), "cancel", "tiny", "stage1"])
    wait_for(folder.cancel.exists, "the command's own start")
    began = time.monotonic()
    wait_for(lambda: not cluster.processes(job), "the job's end", CANCEL_SECONDS)
    took = time.monotonic() - began
    assert cancelling.wait(60) == 0
    production.wait_status(run, "FAILURE")
    TABLE.add(
        "`olmo cancel`, training over 2 nodes",
        "no process left after 10 s; a bystander lives",
        f"none after {took:.1f} s; it lived",
    )


def observed(production: Production, run: str, name: str) -> dict[str, dg.MetadataValue]:
    """What the latest observation that has such an entry shows."""

    def look() -> dict[str, dg.MetadataValue] | None:
        logs = production.instance.all_logs(run, of_type=DagsterEventType.ASSET_OBSERVATION)
        events = [entry.asset_observation for entry in logs]
        found = [dict(event.metadata) for event in events if event and name in event.metadata]
        return found[-1] if found else None

    return wait_for(look, f"an observation with {name}")


def entry(page: Page, name: str) -> Locator:
    """The row of what an observation shows under a name."""
    cell = page.get_by_role("cell", name=name, exact=True)
    return page.get_by_role("row").filter(has=cell).first


def job_on_two_nodes(production: Production, cluster: Cluster, graph: Graph) -> str:
    """The id of the training's job, which has a rank on each of two nodes."""
    [folder] = graph.unfinished(production.root, "stage1")
    job = str((folder.read(folder.launch) or {})["job_id"])
    environments = [process.environ() for process in cluster.processes(job)]
    assert len({one["SLURMD_NODENAME"] for one in environments if "RANK" in one}) == 2
    return job
