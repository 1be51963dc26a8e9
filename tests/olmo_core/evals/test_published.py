"""Published tables: their figures are a suite's, and their averages those of their figures."""

from dataclasses import replace

import pytest

from olmo_core.evals.published import PublishedTable, published_tables
from olmo_core.evals.suites import suite


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.models[-1].name)
def test_the_averages_are_those_of_the_figures(table: PublishedTable) -> None:
    listed = suite(table.suite)
    for model in table.models:
        for average, tasks in (("core", listed.core), ("all", [*listed.tasks])):
            name = f"{table.suite}_{average}"
            if name in model.percent:
                mean = sum(model.percent[task] for task in tasks) / len(tasks)
                assert model.percent[name] == pytest.approx(mean, abs=0.1), (model.name, name)


def test_a_figure_is_a_fraction_of_the_suites_metric_and_says_where_it_stands() -> None:
    rows = [row for table in published_tables() for row in table.rows()]
    [row] = [r for r in rows if (r["model"], r["task"]) == ("OLMo 7B", "olmo1_arc_easy")]
    assert (row["metric"], row["value"], row["tokens"]) == ("acc_uncond", 0.654, 2.5e12)
    assert row["published"] == "https://huggingface.co/allenai/OLMo-7B"
    shots = {r["model"]: r["num_fewshot"] for r in rows if r["task"] == "olmo1_gsm8k"}
    assert (shots["Falcon 7B"], shots["OLMo 7B"]) == (5, 8)
    assert len({(r["model"], r["task"]) for r in rows}) == len(rows) == 5 * 14 + 4 * 10


def test_a_figure_of_no_task_is_refused_with_the_nearest() -> None:
    table = published_tables()[0]
    model = replace(table.models[0], percent={"olmo1_piqaa": 70.0})
    with pytest.raises(ValueError, match="no task 'olmo1_piqaa'; did you mean 'olmo1_piqa'"):
        replace(table, models=(model,))
