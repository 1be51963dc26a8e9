"""Tables as the page of an asset shows them."""

from typing import Any

from assets.reporting.report import MOST_COLUMNS, fitting

COLUMNS = [f"task {number}" for number in range(MOST_COLUMNS)]


def rows(*names: str, columns: list[str] = COLUMNS) -> list[dict[str, Any]]:
    return [{"model": name, **{column: f"{name} {column}" for column in columns}} for name in names]


def test_a_wide_table_of_few_rows_stands_on_its_side() -> None:
    turned = fitting(rows("stage1", "soup"))
    assert len(turned) == MOST_COLUMNS
    assert list(turned[0]) == ["model", "stage1", "soup"]
    assert turned[3] == {"model": "task 3", "stage1": "stage1 task 3", "soup": "soup task 3"}


def test_other_tables_stand_as_they_are() -> None:
    narrow = rows("stage1", "soup", columns=COLUMNS[:-1])
    long = rows(*(f"stage1@step{step}" for step in range(MOST_COLUMNS + 1)))
    same_name_twice = rows("stage1", "stage1")
    for table in (narrow, long, same_name_twice, [{}]):
        assert fitting(table) == table
