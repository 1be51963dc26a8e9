"""Read the store of results with duckdb, whatever the number of its files; free of torch.

Two views: `rows`, every figure that was ever kept, each once, and `current`, those of them whose
evaluation has not been superseded by a later one of the same model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmo_core.errors import InputError
from olmo_core.evals.store.tokens_behind import tokens_before

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

IN_LOOP = "in_loop"  # the asset of what trainings evaluated while they trained, no job's

# A job of the same asset, for the same recipe, that has scored the same model of the same run: the
# latest counts, whole. A task that it no longer has is no longer current. Of in-loop figures those
# of the last training in their run folder count, so that the curves of two never become one.
CURRENT = """
create view current as select * exclude last_training from (
    select *, arg_max(training, finished) over (
        partition by asset, recipe, run, split_part(model, '@', 1)
    ) as last_training from rows
)
where training is not distinct from last_training
qualify 1 = dense_rank() over (
    partition by evaluated_for, asset, recipe, run, model order by finished desc, evaluation
)
"""


POSITION = "select *, row_number() over () as position"
# Of runs whose rows were written before `tokens_before` was, from what their folders say now.
LACKING = """
select distinct recipe, split_part(model, '@', 1), run from kept
where tokens_before is null and tokens is not null and run is not null
"""
ROWS = """
create view rows as select *, tokens + tokens_before as tokens_in_all from (
    select kept.* replace (
        -- a baseline, which is of no run, has nothing behind it
        coalesce(kept.tokens_before, found.tokens_before, if(kept.run is null, 0, null))
        as tokens_before
    )
    from kept left join found on kept.recipe = found.recipe and kept.run = found.run
        and split_part(kept.model, '@', 1) = found.model
)
"""
# A root may have been copied with its store.
ONCE = "qualify 1 = dense_rank() over (partition by evaluation order by folder)"


@dataclass(frozen=True, kw_only=True)
class Results:
    """The rows of one or several roots, and which files are not among them, each with the why."""

    connection: "duckdb.DuckDBPyConnection"
    damaged: Mapping[Path, str]

    def query(self, sql: str, *values: Any, **named: Any) -> list[dict[str, Any]]:
        """Return the rows of a query over the views as dictionaries; of `?` or of `$name`."""
        result = self.connection.execute(sql, named or list(values))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def require_whole(self) -> None:
        """Refuse to go on without the damaged files.

        Raises:
            InputError: there are some; names each.
        """
        if self.damaged:
            raise InputError("; ".join(self.damaged.values()))


def open_results(root: Path, shared: Sequence[Path] = ()) -> Results:
    """Return all results below a root, and of others that are only read.

    What has finished and is not in the store yet, of an earlier version say, is added to it first.
    In the views `folder` is absolute, `position` the row's place in the order of the files and
    their rows, and `tokens_in_all` what is behind the weights, with all that their run began from;
    null where that is not known. `damaged` names each file that is not what was written: its
    rows are not in the views, unless the run folder is still there, from which it is written anew.
    """
    import duckdb  # with pyarrow half a second, which only those wait for who ask for results

    tables, damaged = read_roots(root, shared)
    connection = duckdb.connect()
    parts: list[str] = []
    for number, (place, table) in enumerate(tables):
        connection.register(f"stored{number}", table)
        below = str(place).replace("'", "''")
        parts.append(f"select * replace ('{below}/' || folder as folder) from stored{number}")
    everything = " union all ".join(parts)
    once = ONCE if shared else ""
    connection.execute(f"create view kept as {POSITION} from ({everything}) {once}")
    connection.execute("create table found (recipe text, model text, run text, tokens_before long)")
    for run in connection.execute(LACKING).fetchall():
        named = (place.joinpath(*run) for place, _ in tables)
        before = next((tokens_before(path) for path in named if path.is_dir()), None)
        connection.execute("insert into found values (?, ?, ?, ?)", [*run, before])
    connection.execute(ROWS)
    connection.execute(CURRENT)
    return Results(connection=connection, damaged=damaged)


def read_roots(
    root: Path, shared: Sequence[Path]
) -> "tuple[list[tuple[Path, pa.Table]], dict[Path, str]]":
    """Return tables of rows with the root that each is of, and what is damaged."""
    import pyarrow as pa

    from olmo_core.evals.store.files import compacted, read_store
    from olmo_core.evals.store.gather import gather, restored, tried_on, unrecorded
    from olmo_core.evals.store.in_loop import lacking_evaluations, trainings
    from olmo_core.evals.store.schema import SCHEMA
    from olmo_core.evals.store.write import evaluation_table

    damaged = gather(root)
    table, unreadable = read_store(root, cache=root / "cache")
    if any([restored(path, root) for path in unreadable]):
        table, unreadable = read_store(root, cache=root / "cache")
    damaged |= unreadable
    tables = [(root, table)]
    for place in shared:
        table, unreadable = read_store(place, cache=root / "cache")
        damaged |= unreadable
        tables.append((place, table))
        for run in unrecorded(place):  # it is not for us to add them
            ended = tried_on(run, partial(evaluation_table, root=place))
            if isinstance(ended, str):
                damaged[run.path] = ended
            else:
                tables.append((place, compacted(ended)))
        for run in trainings(place):
            lacking = tried_on(run, lambda run, at=place: [*lacking_evaluations(run, at)])
            if isinstance(lacking, str):
                damaged[run.path] = lacking
                continue
            rows = [row for _, rows in lacking for row in rows]
            tables.append((place, compacted(pa.Table.from_pylist(rows, schema=SCHEMA))))
    return tables, damaged
