"""Tables and figures as the page of an asset shows them."""

from typing import Any

import dagster as dg
import pytest

from assets.reporting.tables import MOST_COLUMNS, PAGE_PIXELS, figure, parted, tables, turned
from assets.reporting.texts import code_block
from tests.hostile import TEMPLATES

COLUMNS = [f"task {number}" for number in range(MOST_COLUMNS)]


def rows(*names: str, columns: list[str] = COLUMNS) -> list[dict[str, Any]]:
    return [{"model": name, **{column: f"{name} {column}" for column in columns}} for name in names]


def test_a_wide_table_of_few_rows_stands_on_its_side() -> None:
    on_side = turned(rows("stage1", "soup"))
    assert len(on_side) == MOST_COLUMNS
    assert list(on_side[0]) == ["model", "stage1", "soup"]
    assert on_side[3] == {"model": "task 3", "stage1": "stage1 task 3", "soup": "soup task 3"}


def test_other_tables_stand_as_they_are() -> None:
    narrow = rows("stage1", "soup", columns=COLUMNS[:-1])
    long = rows(*(f"stage1@step{step}" for step in range(MOST_COLUMNS + 1)))
    same_name_twice = rows("stage1", "stage1")
    for table in (narrow, long, same_name_twice, [{}]):
        assert turned(table) == table


def test_a_table_wider_than_the_page_comes_in_parts_that_hold_every_cell_once() -> None:
    table = rows(*(f"stage1@step{step}" for step in range(MOST_COLUMNS + 1)))
    parts = parted(table)
    assert len(parts) > 1
    for part in parts:
        # Of the widest cells, with 16 pixels around each: what a browser has been seen to draw.
        assert sum(8.4 * len(str(max(row[name] for row in part))) for name in part[0]) < PAGE_PIXELS
        assert [row["model"] for row in part] == [row["model"] for row in table]
    together: list[dict[str, Any]] = [{} for _ in table]
    for part in parts:
        for whole, row in zip(together, part, strict=True):
            assert not (row.keys() - {"model"}) & whole.keys()
            whole.update(row)
    assert together == table


def test_a_column_of_long_texts_takes_part_in_the_page_and_no_more() -> None:
    basis = "4.823e6 FLOPs per token: 6 N + 12 layers × width × sequence length"
    parts = parted([{"figure": "flops", "forecast": 1.0, "basis": basis}])
    assert [list(part[0]) for part in parts] == [["figure", "forecast", "basis"]]
    wide = [{"figure": "device_hours", "a" * 20: 1, "b" * 20: 1, "basis": basis}]
    assert [list(part[0])[1:] for part in parted(wide)] == [["a" * 20], ["b" * 20], ["basis"]]


def test_parts_are_named_after_the_table() -> None:
    wide = rows("stage1", "stage2_ingredient1", "stage2_ingredient2")
    assert list(tables("board", wide)) == ["board", "board (2 of 2)"]
    assert list(tables("small", [{"source": "web", "documents": 3}])) == ["small"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1262656, "1,262,656"),
        (391, "391"),
        (5.50838001, "5.50838"),
        (0.00030, "0.0003"),
        (11625.84, "11,626"),
        (3.862e12, "3.862e+12"),
        (800768.0, "800,768"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (True, "True"),
        (None, "None"),
        ("soup", "soup"),
    ],
)
def test_figures_are_texts_that_a_person_reads(value: Any, shown: str) -> None:
    assert figure(value) == shown


def test_digits_of_a_table_are_in_groups_where_there_are_many() -> None:
    table = tables("t", [{"name": "a", "n": 999, "m": 1262656, "x": 0.12345678}])["t"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data == {"name": "a", "n": 999, "m": "1,262,656", "x": 0.123457}
    assert [column.type for column in table.schema.columns] == ["string", "int", "int", "float"]


@pytest.mark.parametrize("value", TEMPLATES, ids=lambda value: ascii(value)[:30])
def test_what_documents_say_is_shown_as_it_is_written(value: str) -> None:
    table = tables("t", [{"id": value}])["t"]
    assert isinstance(table, dg.TableMetadataValue)
    assert all(c.isprintable() or c in "\n\t" for c in str(table.records[0].data["id"]))
    lines = code_block(value).removesuffix("\n").split("\n")
    assert all(line.startswith("    ") for line in lines if value)
    assert all(c.isprintable() or c == "\t" for line in lines for c in line)
