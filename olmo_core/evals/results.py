"""Query evaluation results with duckdb, straight from their Parquet files; free of torch.

Two views: `rows`, everything as written, and `leaderboard`, one row per (recipe, run, model, task,
metric): a name such as `stage1@step100` is of many runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

COLUMNS = (
    *("recipe", "run", "seed", "model", "revision", "step", "tokens"),
    *("task", "metric", "value", "stderr"),
)  # of the view `leaderboard`


def connect(*folders: Path) -> "duckdb.DuckDBPyConnection":
    """Return a connection with the views over the `rows.parquet` of these run folders.

    Raises:
        FileNotFoundError: one of the folders has none.
    """
    paths = [folder / "rows.parquet" for folder in folders]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the evaluation has not finished")
    import duckdb  # 0.3 s, and only these tables need it

    connection = duckdb.connect()
    # Rows keep the order of the files: duckdb's `preserve_insertion_order`, its default.
    # Rows of before may lack columns.
    rows = connection.read_parquet([str(path) for path in paths], union_by_name=True)
    rows.create_view("rows")
    columns = ", ".join(name if name in rows.columns else f"null as {name}" for name in COLUMNS)
    connection.execute(f"create view leaderboard as select {columns} from rows")
    return connection


def query(connection: "duckdb.DuckDBPyConnection", sql: str, *values: Any) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries."""
    result = connection.execute(sql, list(values))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def leaderboard_rows(*folders: Path) -> list[dict[str, Any]]:
    """Return all figures: the columns `COLUMNS`."""
    with connect(*folders) as connection:
        return query(connection, "select * from leaderboard")
