"""Planner statistics: read from a description, scaled, restored into a database without rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required

import psycopg
from psycopg import sql
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # what pydantic asks for before Python 3.12

from scripts.errors import ToolError, refuse
from scripts.settings import ROOT, project

EXPORT = ROOT / "sql" / "monitor" / "statistics.sql"
"""Prints a database's description; no value of a row is in it that the schema does not name."""

COMMON = 100
"""Most common values that PostgreSQL keeps of a column, unless told otherwise."""

FILL = 0.7
"""How full the pages of a B-tree are that grew in no order."""

FIRST_DAY = date(2024, 1, 1)
"""Dates and times are taken to lie within four years from here on, evenly; numbers around 0."""

Described = dict[str, Any]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=10**13)]


class Size(TypedDict):
    """Rows and pages of a table or an index."""

    rows: Count
    pages: Annotated[int, Field(ge=0, le=10**9)]


class Column(TypedDict, total=False):
    """What `pg_stats` knows of a column; see scripts/README.md."""

    width: Required[Annotated[int, Field(ge=0, le=10**9)]]
    distinct: Required[Annotated[float, Field(ge=-1, allow_inf_nan=False)]]
    null: Share
    correlation: Annotated[float, Field(ge=-1, le=1)]
    common: dict[str, Share]
    heavy: tuple[Annotated[int, Field(ge=1, le=10_000)], Annotated[float, Field(gt=0, le=1)]]


class Table(Size):
    """A table with its columns, and indexes where their size is known."""

    columns: dict[str, Column]
    indexes: NotRequired[dict[str, Size]]


class Description(TypedDict):
    """A whole description."""

    about: NotRequired[str]
    counted: str
    tables: dict[str, Table]


@dataclass(frozen=True)
class Statistics:
    """What is known of a database's rows; scripts/README.md describes the form.

    Parameters
    ----------
    counted : the table whose rows `scaled` counts
    tables : by name: rows, pages, columns, and indexes where their size is known
    """

    counted: str
    tables: dict[str, Described]

    def scaled(self, rows: int) -> Statistics:
        """Return what they would be with so many rows in the counted table.

        All tables grow alike, by more tenants: each of them keeps its rows. The values of the other
        columns keep their shares.
        """
        factor = rows / self.tables[self.counted]["rows"]
        tables = {name: _scaled(table, factor) for name, table in self.tables.items()}
        return Statistics(self.counted, tables)


def read_statistics(path: Path) -> Statistics:
    """Read a description, such as `plans export` prints.

    Raises
    ------
    ToolError : the file cannot be read, or is none (code `bad-statistics`)
    """
    try:
        found: Any = TypeAdapter(Description).validate_json(path.read_bytes())
        counted = found["tables"].get(found["counted"])
        if not counted or not counted["rows"]:
            raise _bad(path, f"counted names {found['counted']}, which has no rows")
    except OSError as error:
        raise _bad(path, str(error.strerror)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _bad(path, f"{place}: {first['msg']}".lstrip(": ")) from None
    return Statistics(found["counted"], found["tables"])


def _bad(path: Path, why: str) -> ToolError:
    return refuse(
        "bad-statistics",
        f"{project().relative(path)} describes no statistics: {why}",
        fix="python -m scripts plans export > FILE writes them; scripts/README.md has the form",
    )


def export(connection: psycopg.Connection, counted: str) -> Described:
    """Return the description of a database's own statistics; see `Statistics`.

    Raises
    ------
    ToolError : there are none of the counted table, or none that this role may see
    """
    values = {"tenant": project().tenant_column, "counted": counted}
    query = re.sub(r":'(\w+)'", r"%(\1)s::text", EXPORT.read_text("utf-8").replace("%", "%%"))
    row = connection.execute(query.encode(), values).fetchone()
    assert row
    found: Described = row[0]
    tables = found["tables"] or {}
    hidden = [name for name, table in tables.items() if table["rows"] and not table["columns"]]
    if counted not in tables or hidden:
        names = ", ".join(hidden) or counted
        raise refuse(
            "bad-statistics",
            f"there are no statistics of {names} that {connection.info.user} may see",
            fix="run ANALYZE; connect as the owner with BYPASSRLS; --counted takes a bare name",
        )
    return found


def restore_tables(connection: psycopg.Connection, statistics: Statistics) -> None:
    """Give the empty tables of a database these statistics, and their columns.

    Parameters
    ----------
    connection : of the tables' owner; PostgreSQL 18 or newer
    statistics : of tables and columns that may be missing here: those are passed over
    """
    columns = connection.execute(_COLUMNS).fetchall()
    for table, column, type_ in columns:
        known = statistics.tables.get(table, {})
        if about := known.get("columns", {}).get(column):
            _column(connection, (table, column, type_), about, known["rows"])
    for table in {table for table, *_ in columns} & statistics.tables.keys():
        known = statistics.tables[table]
        _relation(connection, table, known["rows"], known["pages"], visible=known["pages"])


def restore_indexes(connection: psycopg.Connection, statistics: Statistics) -> None:
    """Give the indexes of a database these statistics, after its tables have grown.

    The size of an index that is not described follows from its columns' widths, and the rows of a
    partial one from the planner's own estimate.

    Parameters
    ----------
    connection : of the tables' owner; PostgreSQL 18 or newer
    statistics : of indexes that may be missing here: those are passed over
    """
    for table, index, widths, predicate in connection.execute(_INDEXES).fetchall():
        if known := statistics.tables.get(table):
            about = known.get("indexes", {}).get(index)
            about = about or _index(connection, table, known, widths, predicate)
            _relation(connection, index, about["rows"], about["pages"])


_COLUMNS = """
select relname, attname, format_type(atttypid, null)
from pg_attribute
join pg_class on pg_class.oid = attrelid
where relnamespace = 'public'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
"""

_INDEXES = """
select
    t.relname,
    i.relname,
    array(
        select coalesce(attname, '')
        from unnest(x.indkey::int[]) as n
        left join pg_attribute on attrelid = x.indrelid and attnum = n and n > 0
    ),
    pg_get_expr(x.indpred, x.indrelid)
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as t on t.oid = x.indrelid
where t.relnamespace = 'public'::regnamespace
"""

_RELATION = """
select pg_restore_relation_stats(
    'schemaname', 'public', 'relname', %s::text, 'reltuples', %s::real, 'relpages', %s::int,
    'relallvisible', %s::int
)
"""


def _relation(
    connection: psycopg.Connection, name: str, rows: float, pages: int, *, visible: int = 0
) -> None:
    connection.execute(_RELATION, [name, rows, pages, visible])


def _column(
    connection: psycopg.Connection, column: tuple[str, str, str], about: Described, rows: float
) -> None:
    """Restore the statistics of one column: its table, its name and its type."""
    table, name, type_ = column
    count, share = about.get("heavy", (0, 0))
    heavy = [placeholder(type_, number) for number in range(1, count + 1)]
    common = about.get("common") or dict.fromkeys(filter(None, heavy), share)
    distinct = about["distinct"]
    fields: dict[str, tuple[str, Any]] = {
        "null_frac": ("real", about.get("null", 0)),
        "avg_width": ("integer", about["width"]),
        "n_distinct": ("real", distinct),
        "correlation": ("real", about.get("correlation", 0)),
    }
    if common:
        fields["most_common_vals"] = ("text", _array(common))
        fields["most_common_freqs"] = ("real[]", list(common.values()))
    if not 0 < distinct <= len(common) and (bounds := _bounds(type_, rows)):
        fields["histogram_bounds"] = ("text", _array(bounds))
    pairs = ", ".join(f"'{field}', %s::{type_}" for field, (type_, _) in fields.items())
    connection.execute(
        "select pg_restore_attribute_stats('schemaname', 'public', 'relname', %s::text, "
        f"'attname', %s::text, 'inherited', false, {pairs})".encode(),
        [table, name, *(value for _, value in fields.values())],
    )


def placeholder(type_: str, number: int) -> str | None:
    """Return what stands for one of a column's most common values; None for a type without."""
    if type_ in ("smallint", "integer", "bigint", "numeric"):
        return str(number)
    if type_ == "uuid":
        return f"00000000-0000-4000-8000-{number:012}"
    return f"heavy {number}" if type_ == "text" or type_.startswith("character") else None


def _bounds(type_: str, rows: float) -> list[str]:
    """Return what divides the values of an ordered type into a hundred equal parts."""
    if type_ in ("smallint", "integer", "bigint"):
        most = {"smallint": 2**15, "integer": 2**31}.get(type_, 2**63) - 1
        half = min(rows / 2, most)
        return [str(round((step - 50) * half / 50)) for step in range(101)]
    if type_ == "date" or type_.startswith("timestamp"):
        return [str(FIRST_DAY + timedelta(days=step * 14.6)) for step in range(101)]
    return []


def _array(values: Iterable[object]) -> str:
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _index(
    connection: psycopg.Connection,
    table: str,
    known: Described,
    columns: list[str],
    predicate: str | None,
) -> Described:
    """Return the rows and pages that an index probably has."""
    widths = [known["columns"].get(column, {}).get("width", 8) for column in columns]
    entry = 12 + sum(8 * -(-width // 8) for width in widths)
    rows = known["rows"] * (_share(connection, table, predicate) if predicate else 1)
    return {"rows": rows, "pages": 1 + round(rows * entry / (8192 * FILL))}


def _share(connection: psycopg.Connection, table: str, predicate: str) -> float:
    """Return the share of a table's rows that the planner expects to meet a predicate."""
    estimates = []
    for condition in ("true", predicate):
        statement = sql.SQL("explain (format json) select from {} where {}").format(
            sql.Identifier(table),
            sql.SQL(condition),
        )
        row = connection.execute(statement).fetchone()
        assert row
        estimates.append(row[0][0]["Plan"]["Plan Rows"])
    return min(1.0, float(estimates[1] / estimates[0]))


def _scaled(table: Described, factor: float) -> Described:
    columns = {}
    for name, about in table["columns"].items():
        columns[name] = about
        if name == project().tenant_column and about["distinct"] > 0:
            columns[name] = {**about, "distinct": -about["distinct"] / table["rows"]}
        if "heavy" in about:
            count, share = about["heavy"]
            together = count * share
            share = min(together, share / factor)
            count = min(COMMON, round(together / share))
            columns[name] = {**columns[name], "heavy": (count, share)}
    return {
        **{size: 1 + round(table[size] * factor) for size in ("rows", "pages")},
        "columns": columns,
        "indexes": {
            name: {size: 1 + round(known[size] * factor) for size in ("rows", "pages")}
            for name, known in table.get("indexes", {}).items()
        },
    }
