"""What a plan reads, told by its structure alone: by which indexes, and how much at the most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
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

    @cached_property
    def spared(self) -> frozenset[str]:
        """The names of the indexes of small tables, which nothing need read by."""
        return frozenset(each.name for each in self.indexes.values() if each.table in self.small)


@dataclass
class Reading:
    """What one plan reads.

    Parameters
    ----------
    reach : of the node that reads most
    indexes : the names of the indexes it reads by, in order, each once
    spared : the catalog's
    """

    reach: Reach = Reach.NOTHING
    indexes: list[str] = field(default_factory=list)
    spared: frozenset[str] = frozenset()


_INDEXES = """
select
    i.relname,
    t.relname,
    array(
        select pg_get_indexdef(x.indexrelid, n, false)
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
        name: Index(name, table, tuple(_VALUE.sub("?", each) for each in columns), unique)
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
    "WindowAgg",
}
"""Nodes that read all they are given before they return a row."""

_THINNING = {"Group", "Hash Join", "Merge Join", "Nested Loop", "Unique"}
"""Nodes that may return fewer rows than they are given; any other does so by a filter alone."""

_SCANS = {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}
_WHOLE = {"Seq Scan", "Tid Scan", "Tid Range Scan", "Sample Scan", "Foreign Scan", "Custom Scan"}


def reading(plan: Node, catalog: Catalog, sql: str) -> Reading:
    """Return what a plan reads.

    Parameters
    ----------
    plan : the `Plan` of EXPLAIN's JSON
    catalog : of the database that was asked
    sql : the statement, for what EXPLAIN does not show of a limit
    """
    found = Reading(spared=catalog.spared)
    for node, most in _nodes(plan, Reach.RANGE, skips=bool(_SKIPS.search(sql))):
        kind, name = node["Node Type"], node.get("Index Name", "")
        found.indexes += node.get("Conflict Arbiter Indexes", ())
        if kind in _WHOLE:
            is_small = node.get("Relation Name") in catalog.small
            found.reach = max(found.reach, Reach.KEY if is_small else Reach.TABLE)
        elif kind in _SCANS and name in catalog.indexes:
            found.reach = max(found.reach, _by_index(node, catalog, most))
            if name not in found.indexes:
                found.indexes.append(name)
    return found


_SKIPS = re.compile(r"\boffset\s+(?!0\b)|\bwith\s+ties\b", re.IGNORECASE)
"""What makes a LIMIT read more than it returns: the outermost one of a plan is then no bound."""


def _nodes(
    node: Node, most: Reach, *, least: Reach = Reach.LIMIT, skips: bool = False
) -> Iterator[tuple[Node, Reach]]:
    """Yield each node, and how much of what it finds in order it is asked for at the most.

    That is `limit` below a LIMIT, `filter` where what lies between leaves rows out, else `range`.

    Parameters
    ----------
    node : where to begin
    most : what is asked of it
    least : what a LIMIT makes of that; more where it is executed again for each row of another
    skips : whether the first LIMIT is none
    """
    yield node, most
    kind = node["Node Type"]
    if kind == "Limit" and not skips:
        inside = least
    elif kind in _BLOCKING:
        inside = Reach.RANGE
    else:
        is_thinning = kind in _THINNING and node.get("Join Type") != "Left"
        inside = max(most, Reach.FILTER) if is_thinning or "Filter" in node else most
    children = node.get("Plans", [])
    repeats = most == Reach.RANGE and not (children and _is_one_row(children[0]))
    for child in children:
        relation = child.get("Parent Relationship")
        again = relation == "SubPlan" or kind == "Recursive Union"
        again = again or (relation == "Inner" and kind == "Nested Loop")
        yield from _nodes(
            child,
            inside if relation in ("Outer", "Member", "Subquery") else Reach.RANGE,
            least=Reach.RANGE if again and repeats else least,
            skips=skips and kind != "Limit" and relation not in ("InitPlan", "SubPlan"),
        )


def _is_one_row(node: Node) -> bool:
    is_plain = node["Node Type"] == "Aggregate" and node.get("Strategy") == "Plain"
    return is_plain or (node["Node Type"] == "Result" and "Plans" not in node)


def _by_index(node: Node, catalog: Catalog, most: Reach) -> Reach:
    """Return how much a node reads by its index.

    Parameters
    ----------
    node : a scan of an index
    catalog : has the index
    most : how much of what it finds it is asked for
    """
    index = catalog.indexes[node["Index Name"]]
    if index.table in catalog.small:
        return Reach.KEY
    condition = _VALUE.sub("?", node.get("Index Cond", ""))
    is_plain = "Filter" not in node
    if index.table in catalog.tenants and not _names_one(catalog.tenant, condition):
        return Reach.TABLE
    if not condition:
        return most if most == Reach.LIMIT and is_plain else Reach.TABLE
    said = _conditions(index.columns, condition)
    if index.unique and set(said) == {"="}:
        return Reach.KEY
    if most == Reach.RANGE:
        return Reach.RANGE
    # One range: equal columns first, then one comparison at the most, perhaps of rows.
    compared = list(zip(index.columns, said, strict=True))
    while compared and compared[0][1] == "=":
        del compared[0]
    while compared and not compared[-1][1]:
        del compared[-1]
    row = f"ROW({', '.join(column for column, _ in compared)}) "
    is_one = len(compared) < 2 or row in condition
    return most if is_one and is_plain else Reach.FILTER


def _names_one(column: str, condition: str) -> bool:
    """Return whether a condition names one tenant: no list, no other column of another table."""
    name = re.escape(column)
    value = rf"(?!ANY)(?:(?![\w\"]+\.)|[\w\"]+\.{name}\))"
    return bool(re.search(rf"\((?:{name}|\({name}\)::[\w ]+) = {value}", condition))


@lru_cache(maxsize=4096)
def _conditions(columns: tuple[str, ...], condition: str) -> tuple[str, ...]:
    """Return for each column of an index what its condition says of it: `=`, `<` or nothing."""
    found = []
    for column in columns:
        name = rf"(?<![\w\".]){re.escape(column)}(?![\w\"])"
        if re.search(rf"\((?:{name}|\({name}\)::[\w ]+) (?:=|IS NULL)", condition):
            found.append("=")
        else:
            found.append("<" if re.search(name, condition) else "")
    return tuple(found)


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
