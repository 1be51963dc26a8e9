"""The check `up_to_date`: Dagster knows what `olmo plan` says, and nothing is run for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.graph import Graph
from assets.recipe import Recipe
from assets.reporting.up_to_date import NAME
from olmo_core.errors import ConfigError
from pipelines import up_to_date
from pipelines.cli.run import run_graph
from pipelines.instance import open_instance
from pipelines.up_to_date import up_to_date_sensor
from tests.assets.made import make_all
from tests.conftest import toy_graph


def tick(
    instance: dg.DagsterInstance, patch: pytest.MonkeyPatch, graph: Graph
) -> Sequence[dg.AssetCheckEvaluation]:
    """What the sensor reports of a recipe `toy` that stands like the graph; Dagster is told."""

    def load(name: str) -> Recipe:
        assert name == "toy"
        return graph.recipe

    def build(recipe: Recipe) -> Graph:
        return graph

    patch.setattr(up_to_date, "load_recipe", load)
    patch.setattr(up_to_date, "build_graph", build)
    context = dg.build_sensor_context(instance=instance)
    data = up_to_date_sensor(["toy"]).evaluate_tick(context)
    assert not data.run_requests
    told: list[dg.AssetCheckEvaluation] = []
    for event in data.asset_events:
        assert isinstance(event, dg.AssetCheckEvaluation)
        instance.report_runless_asset_event(event)
        told.append(event)
    return told


def said(events: Sequence[dg.AssetCheckEvaluation]) -> dict[str, tuple[bool, str | None]]:
    return {event.asset_key.path[-1]: (event.passed, event.description) for event in events}


def shown(instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(["toy", name]), NAME)
    record = instance.get_latest_asset_check_evaluation_record(key)
    assert record is not None
    assert record.event is not None
    found = record.event.asset_check_evaluation
    assert found is not None
    return found


def test_each_asset_is_reported_once_and_again_when_it_says_something_else(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Mapping[str, Any] = {"value": 1}
    make_all(toy_graph(first=first), toy_root)
    with dg.DagsterInstance.ephemeral() as instance:
        fresh = tick(instance, monkeypatch, toy_graph(first=first))
        assert said(fresh) == {"first": (True, "up to date"), "second": (True, "up to date")}
        assert tick(instance, monkeypatch, toy_graph(first=first)) == []
        stale = tick(instance, monkeypatch, toy_graph(first={"value": 2}))
        assert said(stale) == {
            "first": (False, "stale: config value: 1 → 2"),
            "second": (False, "stale: because of its input first"),
        }
        assert {event.severity for event in stale} == {dg.AssetCheckSeverity.WARN}
        assert shown(instance, "first").metadata["why"].value == "- `config value: 1 → 2`"
        assert said(tick(instance, monkeypatch, toy_graph(first=first))) == said(fresh)


def test_a_run_reports_what_it_makes_as_up_to_date_in_its_own_step(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = toy_graph()
    assert run_graph(graph, [], force=False) == 0
    with open_instance() as instance:
        assert shown(instance, "first").passed
        assert tick(instance, monkeypatch, toy_graph()) == []
        [run] = instance.get_runs()
        steps = {stat.step_key for stat in instance.get_run_step_stats(run.run_id)}
        assert not [step for step in steps if NAME in step]
        stale = tick(instance, monkeypatch, toy_graph(second={"value": 5}))
        assert said(stale) == {"second": (False, "stale: config value: absent → 5")}
    # Another look of Dagster's own at what is finished: the older word counts no more.
    assert run_graph(toy_graph(second={"value": 5}), [], force=False) == 0
    with open_instance() as instance:
        assert shown(instance, "second").passed


def test_a_recipe_of_which_nothing_was_made_or_that_is_malformed_says_nothing(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(instance, monkeypatch, toy_graph()) == []
        make_all(toy_graph(), toy_root)

        def refuse(name: str) -> Recipe:
            raise ConfigError("stage1.yaml:7: unknown key")

        monkeypatch.setattr(up_to_date, "load_recipe", refuse)
        context = dg.build_sensor_context(instance=instance)
        data = up_to_date_sensor(["toy"]).evaluate_tick(context)
        assert (data.asset_events, data.skip_message) == ([], "nothing has changed")
