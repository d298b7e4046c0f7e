"""What a plan reads, told by its structure alone: by which indexes, and how much at the most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any

import psycopg

Node = dict[str, Any]


class Reach(IntEnum):
    """How many rows of a table a plan reads at the most, from fewest to all."""

    NOTHING = 0
    KEY = 1
    """Those whose whole key is given."""
    LIMIT = 2
    """As many as the limit, from each range of an index that has them in order."""
    FILTER = 3
    """Those, and the ones between them that a filter leaves out."""
    RANGE = 4
    """All that an index's condition admits: of a table with tenants, one tenant's."""
    TABLE = 5
    """All, or those of every tenant."""

    def __str__(self) -> str:
        """The word of a corpus."""
        return self.name.lower()


@dataclass(frozen=True)
class Index:
    """One index.

    Parameters
    ----------
    name : without its schema
    table : the table's name, without its schema
    columns : the key's columns or expressions, as PostgreSQL prints them in a condition
    unique : whether the key names one row
    """

    name: str
    table: str
    columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True)
class Catalog:
    """What reading a plan takes from the database's catalog.

    Parameters
    ----------
    indexes : by name
    tenants : the names of the tables that have the tenant column
    small : the names of those whose pages are few enough to read all of them
    tenant : that column, as PostgreSQL prints it
    """

    indexes: Mapping[str, Index]
    tenants: frozenset[str]
    small: frozenset[str]
    tenant: str


@dataclass
class Reading:
    """What one plan reads.

    Parameters
    ----------
    reach : of the node that reads most
    indexes : the names of the indexes it reads by, in order, each once
    spared : the names of those of small tables, which it need not read by
    """

    reach: Reach = Reach.NOTHING
    indexes: list[str] = field(default_factory=list)
    spared: frozenset[str] = frozenset()


_INDEXES = """
select
    i.relname,
    t.relname,
    array(
        select pg_get_indexdef(x.indexrelid, n, true)
        from generate_series(1, x.indnkeyatts) as n
        order by n
    ),
    x.indisunique
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as t on t.oid = x.indrelid
where t.relnamespace = 'public'::regnamespace
"""

SMALL = 100
"""Pages of a table that may be read whole, as PostgreSQL does for what is just growing."""

_SMALL = """
select relname
from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relpages <= %s
"""

_TENANTS = """
select relname, quote_ident(attname)
from pg_attribute
join pg_class on pg_class.oid = attrelid
where attname = %s and relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
"""


def read_catalog(connection: psycopg.Connection, tenant: str) -> Catalog:
    """Return the indexes of a database and the tables that have the tenant column."""
    indexes = {
        name: Index(name, table, tuple(columns), unique)
        for name, table, columns, unique in connection.execute(_INDEXES)
    }
    found = connection.execute(_TENANTS, [tenant]).fetchall()
    small = frozenset(name for (name,) in connection.execute(_SMALL, [SMALL]))
    tenants = frozenset(name for name, _ in found)
    return Catalog(indexes, tenants, small, found[0][1] if found else tenant)


_BLOCKING = {
    "Aggregate",
    "Bitmap Heap Scan",
    "Hash",
    "Incremental Sort",
    "ModifyTable",
    "SetOp",
    "Sort",
}
"""Nodes that read all they are given before they return a row."""


def reading(plan: Node, catalog: Catalog) -> Reading:
    """Return what a plan reads.

    Parameters
    ----------
    plan : the `Plan` of EXPLAIN's JSON
    catalog : of the database that was asked
    """
    spared = (index.name for index in catalog.indexes.values() if index.table in catalog.small)
    found = Reading(spared=frozenset(spared))
    for node, limited in _nodes(plan, limited=False):
        for reach, index in _reads(node, catalog, limited):
            found.reach = max(found.reach, reach)
            if index and index not in found.indexes:
                found.indexes.append(index)
    return found


def _nodes(node: Node, *, limited: bool) -> Iterator[tuple[Node, bool]]:
    """Yield each node, and whether it is asked for no more rows than a limit's."""
    yield node, limited
    kind = node["Node Type"]
    inside = kind == "Limit" or (limited and kind not in _BLOCKING)
    for child in node.get("Plans", ()):
        relation = child.get("Parent Relationship")
        yield from _nodes(child, limited=inside and relation in ("Outer", "Member", "Subquery"))


def _reads(node: Node, catalog: Catalog, limited: bool) -> Iterator[tuple[Reach, str | None]]:
    kind = node["Node Type"]
    if kind in ("Seq Scan", "Tid Scan", "Sample Scan"):
        is_small = node.get("Relation Name") in catalog.small
        yield Reach.KEY if is_small else Reach.TABLE, None
    elif kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        index = catalog.indexes.get(node["Index Name"])
        if index:
            condition = node.get("Index Cond", "")
            filtered = "Filter" in node
            yield _by_index(index, catalog, condition, filtered, limited), index.name
    elif kind == "Subquery Scan" and limited and "Filter" in node:
        yield Reach.FILTER, None


@lru_cache(maxsize=4096)
def _conditions(columns: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """Return for each column of an index what its condition says of it: `=`, `<` or nothing."""
    found = []
    for column in columns:
        name = rf"(?<![\w\".]){re.escape(column)}(?![\w\"])"
        if re.search(rf"\({name} (=|IS NULL)", condition):
            found.append("=")
        else:
            found.append("<" if re.search(name, condition) else "")
    return tuple(found)


def _by_index(
    index: Index, catalog: Catalog, condition: str, filtered: bool, limited: bool
) -> Reach:
    if index.table in catalog.small:
        return Reach.KEY
    said = _conditions(index.columns, condition)
    equal = [column for column, sign in zip(index.columns, said, strict=True) if sign == "="]
    if index.table in catalog.tenants and catalog.tenant not in equal:
        return Reach.TABLE
    if index.unique and len(equal) == len(index.columns):
        return Reach.KEY
    if limited:
        # One range: equal columns first, then at most one comparison (of rows, perhaps).
        rest = "".join(sign or " " for sign in said).lstrip("=").rstrip()
        return Reach.FILTER if filtered or " " in rest or "=" in rest else Reach.LIMIT
    return Reach.RANGE if condition else Reach.TABLE


_VALUE = re.compile(r"'(?:[^']|'')*'(?:::[\w ]+(?:\[\])?)?|\$\d+|\b\d+(?:\.\d+)?\b")


def shape(node: Node) -> str:
    """Return a plan as text without its values: nodes, what they read, and by which conditions."""
    told = [node["Node Type"], node.get("Index Name") or node.get("Relation Name", "")]
    told += [_VALUE.sub("?", str(node[key])) for key in sorted(node) if key in _TELLING]
    inside = " ".join(shape(child) for child in node.get("Plans", ()))
    return f"({' '.join(filter(None, told))} {inside})"


_TELLING = {
    "Filter",
    "Index Cond",
    "Join Type",
    "Recheck Cond",
    "Scan Direction",
    "Sort Key",
    "Strategy",
    "Subplan Name",
}
