"""Query evaluation results with duckdb, straight from their Parquet files; free of torch.

Two views: `rows`, everything as written, and `leaderboard`, one row per (model, task, metric).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


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
    connection.read_parquet([str(path) for path in paths]).create_view("rows")
    connection.execute(
        "create view leaderboard as "
        "select model, revision, step, tokens, task, metric, value, stderr from rows"
    )
    return connection


def query(connection: "duckdb.DuckDBPyConnection", sql: str, *values: Any) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries."""
    result = connection.execute(sql, list(values))
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def leaderboard_rows(*folders: Path) -> list[dict[str, Any]]:
    """Return all figures: model, revision, step, tokens, task, metric, value, stderr."""
    with connect(*folders) as connection:
        return query(connection, "select * from leaderboard")
