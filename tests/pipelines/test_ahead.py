"""What needs nothing of each other waits in an engine's queue together, in one Dagster run."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph import Graph
from assets.launcher import Launch
from assets.node import Check, Verdict
from pipelines.definitions import assembled, main_line
from pipelines.instance import open_instance
from pipelines.launchers.local import LocalLauncher
from tests.conftest import SilentObserver, toy_graph


@dataclass(kw_only=True)
class Queueing(LocalLauncher):
    """The local engine, taken for one with a queue; every job of it starts at once."""

    def queues(self, launch: Launch) -> bool:
        return True


def graph_of(inputs: Mapping[str, tuple[str, ...]], **configs: Mapping[str, Any]) -> Graph:
    """A toy graph of these assets, in this order, with what each is made from."""
    toy = toy_graph()
    nodes = {
        name: replace(
            toy.nodes["first"], name=name, inputs=needs, config=dict(configs.get(name, {}))
        )
        for name, needs in inputs.items()
    }
    return replace(toy, nodes=nodes)


def starts(graph: Graph, root: Path, name: str) -> Path:
    return graph.folder(root, name) / "starts"


def execute(graph: Graph, launcher: LocalLauncher, **config: Any) -> dg.ExecuteInProcessResult:
    job = assembled(
        main_line(graph), launcher=launcher, observer=lambda context: SilentObserver()
    ).resolve_job_def("toy")
    with open_instance() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False, **config)


def when(graph: Graph, root: Path, name: str, moment: str) -> float:
    """When an asset's job was `submitted`, `finished`."""
    folder = graph.finished(root, name)
    assert folder is not None
    return folder.read_result()[moment]


def test_siblings_are_at_work_together_where_there_is_a_queue(toy_root: Path) -> None:
    graph = graph_of({"first": (), "a": ("first",), "b": ("first",)})
    assert execute(graph, Queueing()).success
    assert when(graph, toy_root, "b", "submitted") < when(graph, toy_root, "a", "finished")
    for name in graph.nodes:
        assert starts(graph, toy_root, name).read_text() == "x"


def test_what_a_submitted_job_makes_possible_is_submitted_while_another_is_followed(
    toy_root: Path,
) -> None:
    shape = {"long": (), "short": (), "after": ("short",)}
    path = starts(graph_of(shape), toy_root, "after")
    graph = graph_of(shape, long={"wait": str(path)})
    rescue = threading.Timer(30, path.touch)  # so that what is broken fails rather than hangs
    rescue.start()
    try:
        assert execute(graph, Queueing()).success
    finally:
        rescue.cancel()
    assert when(graph, toy_root, "after", "submitted") < when(graph, toy_root, "long", "finished")


def test_a_job_submitted_early_that_fails_is_started_once_and_diagnosed(toy_root: Path) -> None:
    graph = graph_of({"a": (), "b": ()}, b={"fail": True})
    result = execute(graph, Queueing())
    assert not result.success
    assert starts(graph, toy_root, "a").read_text() == "x"
    assert starts(graph, toy_root, "b").read_text() == "x"
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "toy__b"
    assert "text missing" in str(failure.step_failure_data.error)


def test_a_job_whose_own_step_has_failed_is_not_submitted_again(toy_root: Path) -> None:
    graph = graph_of({"a": (), "b": ()}, a={"fail": True})
    assert not execute(graph, Queueing()).success
    assert starts(graph, toy_root, "a").read_text() == "x"
    assert starts(graph, toy_root, "b").read_text() == "x"


@pytest.mark.parametrize("selected", [True, False])
def test_only_what_the_run_makes_is_submitted(toy_root: Path, selected: bool) -> None:
    graph = graph_of({"a": (), "b": ()})
    keys = [dg.AssetKey(["toy", name]) for name in (("a", "b") if selected else ("a",))]
    assert execute(graph, Queueing(), asset_selection=keys).success
    assert starts(graph, toy_root, "b").exists() == selected


def test_a_blocking_check_that_fails_keeps_early_submissions_back(toy_root: Path) -> None:
    def evaluate(finished: object) -> Verdict:
        return Verdict(passed=False, description="the reason")

    check = Check(name="sound", description="Toy.", evaluate=evaluate)
    graph = graph_of({"a": (), "long": (), "after": ("a",)})
    nodes = {**graph.nodes, "a": replace(graph.nodes["a"], checks=(check,))}
    graph = replace(graph, nodes=nodes)
    assert not execute(graph, Queueing()).success
    assert not starts(graph, toy_root, "after").exists()


def test_on_one_machine_jobs_come_one_after_another(toy_root: Path) -> None:
    graph = graph_of({"a": (), "b": ()})
    assert execute(graph, LocalLauncher()).success
    assert when(graph, toy_root, "b", "submitted") > when(graph, toy_root, "a", "finished")
