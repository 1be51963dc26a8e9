"""The graph of `demo`, written out: a change of its shape is seen in a review, never by accident.

After a change that is meant: `python -m tests.assets.test_graph > tests/assets/demo_graph.txt`.
"""

from pathlib import Path

import dagster as dg
import pytest

from pipelines.definitions import build_definitions

SNAPSHOT = Path(__file__).with_name("demo_graph.txt")


def describe() -> str:
    """Assets with group, inputs and checks; then jobs, sensors and schedules."""
    definitions = build_definitions(["demo"])
    graph = definitions.resolve_asset_graph()
    checks: dict[dg.AssetKey, list[str]] = {}
    for key in sorted(graph.asset_check_keys):
        checks.setdefault(key.asset_key, []).append(key.name)
    lines: list[str] = []
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.to_user_string()):
        node = graph.get(key)
        parents = sorted(parent.path[-1] for parent in node.parent_keys)
        lines.append(f"{'/'.join(key.path)}  ({node.group_name})")
        lines.append(f"    from: {', '.join(parents) or 'nothing'}")
        lines.append(f"    checks: {', '.join(checks.get(key, [])) or 'none'}")
    repository = definitions.get_repository_def()
    lines.append(f"jobs: {', '.join(sorted(n for n in repository.job_names if '__' not in n))}")
    lines.append(f"sensors: {', '.join(sorted(s.name for s in repository.sensor_defs))}")
    lines.append(f"schedules: {', '.join(sorted(s.name for s in repository.schedule_defs))}")
    return "\n".join(lines) + "\n"


def test_the_graph_has_the_shape_that_was_written_out() -> None:
    assert describe() == SNAPSHOT.read_text(), "see this module's docstring"


def test_the_main_line_has_no_partitions_and_the_sweep_has_no_children() -> None:
    graph = build_definitions(["demo"]).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        is_sweep = node.group_name == "demo_sweep"
        assert node.is_partitioned == is_sweep
        assert not (is_sweep and node.child_keys)


def test_a_recipe_that_holds_nothing_out_has_no_perplexity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLMO_RECIPES", str(tmp_path))
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "recipe.yaml").write_text("extends: demo\n")
    (tmp_path / "whole" / "corpus.yaml").write_text("held_out: {share: 0}\n")
    definitions = build_definitions(["whole"])
    names = {key.path[-1] for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert not {name for name in names if "perplexity" in name}
    assert {"checkpoint_downstream", "leaderboard", "model_card"} <= names
    definitions.get_repository_def()  # jobs, sensors and schedules name assets that there are


if __name__ == "__main__":
    print(describe(), end="")
