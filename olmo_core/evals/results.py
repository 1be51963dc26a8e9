"""Query evaluation results with duckdb, straight from their Parquet files; free of torch.

Two views: `rows`, everything as written, and `leaderboard`, one row per (model, task, metric).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

ROWS = "rows.parquet"

_LEADERBOARD = """
create view leaderboard as
select model, revision, step, tokens, task, metric, value, stderr
from rows order by position
"""


def connect(*folders: Path) -> "duckdb.DuckDBPyConnection":
    """Return a connection with the views over the `rows.parquet` of these run folders.

    Raises:
        FileNotFoundError: one of the folders has none.
    """
    paths = [folder / ROWS for folder in folders]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the evaluation has not finished")
    import duckdb  # 0.3 s, and only these tables need it

    connection = duckdb.connect()
    files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    # Views take no parameters, hence the quoting above.
    connection.execute(
        "create view rows as select *, row_number() over () as position "
        f"from read_parquet([{files}])"
    )
    connection.execute(_LEADERBOARD)
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


def table(columns: Sequence[tuple[str, str, str]], *folders: Path) -> list[dict[str, Any]]:
    """Return one row per model: its name, revision, step, tokens and the chosen figures.

    Args:
        columns: (title, task, metric) of each figure; absent ones are None.
        folders: Run folders with `rows.parquet`.
    """
    wanted = {(task, metric): title for title, task, metric in columns}
    rows: dict[str, dict[str, Any]] = {}
    for row in leaderboard_rows(*folders):
        facts = {key: row[key] for key in ("model", "revision", "step", "tokens")}
        cells = rows.setdefault(row["model"], {**facts, **dict.fromkeys(wanted.values())})
        title = wanted.get((row["task"], row["metric"]))
        if title is not None:
            cells[title] = row["value"]
    return list(rows.values())
