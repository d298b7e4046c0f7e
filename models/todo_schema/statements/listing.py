"""The SQL of every list: ordered ranges of an index, merged, and cut to a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent


@dataclass(frozen=True)
class Ordering:
    """What a list is ordered by, before its id.

    Parameters
    ----------
    key : an SQL expression, or None where the id is all
    type : its SQL type, to which a cursor's value is cast
    descending : whether the highest comes first; the id goes the same way
    """

    key: str | None
    type: str
    descending: bool

    @property
    def direction(self) -> str:
        """`desc` or `asc`."""
        return "desc" if self.descending else "asc"

    @property
    def before(self) -> str:
        """The condition that the last row seen, of the cursor, comes before a row.

        A comparison of rows is one range of an index; the same in words with OR is a filter.
        """
        sign = "<" if self.descending else ">"
        if self.key is None:
            return f"id {sign} %(after_id)s::bigint"
        return f"({self.key}, id) {sign} (%(after_key)s::{self.type}, %(after_id)s::bigint)"

    def by(self, key: str | None) -> str:
        """Return ORDER BY's list with the key under this name, or as its expression."""
        keys = [key] if key and self.key else []
        return ", ".join(f"{each} {self.direction}" for each in [*keys, "id"])


def ranges(
    source: str,
    columns: str,
    ordering: Ordering,
    conditions: Sequence[Sequence[str]],
    limit: str = "%(limit)s",
) -> str:
    """Return a SELECT of the first rows of several ranges, each in the same order.

    The order and the limit stand in every range and again around them: only then does PostgreSQL
    read each range of its index lazily and merge them. The last column, `sort_key`, is the key.

    Parameters
    ----------
    source : what FROM has
    columns : comma-separated
    ordering : the order of each range and of the whole
    conditions : for each range, what it has to meet
    limit : how many rows of each range and of the whole
    """
    parts = [
        f"select {columns}, {ordering.key or f'null::{ordering.type}'} as sort_key\n"
        f"from {source}\n"
        f"where {_all(each)}\n"
        f"order by {ordering.by(ordering.key)}\n"
        f"limit {limit}"
        for each in conditions
    ]
    if len(parts) == 1:
        return parts[0]
    merged = "\nunion all\n".join(f"({_inside(part)})" for part in parts)
    return (
        f"select * from ({_inside(merged)}) as merged\n"
        f"order by {ordering.by('sort_key')}\n"
        f"limit {limit}"
    )


def segments(dated: str, undated: str, limit: str = "%(limit)s") -> str:
    """Return a SELECT of those with a key and, where they do not fill the limit, those without.

    Parameters
    ----------
    dated, undated : SELECTs of each segment, limited themselves
    limit : how many rows of both
    """
    rest = f"select * from ({_inside(undated)}) as undated\n"
    rest += f"limit {limit} - (select count(*) from dated)"
    return f"with dated as ({_inside(dated)})\nselect * from dated\nunion all\n({_inside(rest)})"


def statement(
    body: str,
    ordering: Ordering,
    *,
    common: Sequence[str] = (),
    head: Mapping[str, str] | None = None,
    window: str = "",
) -> str:
    """Return a whole statement.

    Parameters
    ----------
    body : the SELECT of the rows
    ordering : their order
    common : common table expressions that the body uses
    head : expressions that are wanted even where there is no row, by name: the rows then come
        beside them, and are NULL where there are none
    window : LIMIT and OFFSET around the body
    """
    parts = list(common)
    if head or window or body.startswith("with "):
        order = f"order by sort_key {ordering.direction} nulls last, id {ordering.direction}"
        inner = f"select * from ({_inside(body)}) as part\n{order}{window}"
        if not head:
            return _with(parts, inner)
        parts.append(f"page as ({_inside(inner)})")
        values = ",\n    ".join(f"{expression} as {name}" for name, expression in head.items())
        inner = (
            f"select page.*, head.*\nfrom (select\n    {values}\n) as head\n"
            f"left join page on true\n{order}"
        )
        return _with(parts, inner)
    return _with(parts, body)


def _with(parts: Sequence[str], body: str) -> str:
    return "with " + ",\n".join(parts) + "\n" + body if parts else body


def _all(conditions: Sequence[str]) -> str:
    return "\n    and ".join(conditions)


def _inside(sql: str) -> str:
    return "\n" + indent(sql, "    ") + "\n"
