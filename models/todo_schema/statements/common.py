"""What operations share: checked arguments, decoded rows, lists cut to a slice or a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from todo_schema.errors import InvalidError, NotFoundError
from todo_schema.operation import Namespace, Query, Row
from todo_schema.schemas import Slice, violations
from todo_schema.statements.cursor import Position, encode

LIMIT = 100
"""Items of a slice or a page, at most."""

IDS = 1000
"""Ids of a bulk operation, at most."""

_BIGGEST = 2**63 - 1

Item = TypeVar("Item", bound=BaseModel)
T = TypeVar("T")


def checked_limit(limit: int) -> int:
    """Return a limit from 1 to `LIMIT`.

    Raises
    ------
    InvalidError : it is not
    """
    if type(limit) is not int or not 1 <= limit <= LIMIT:
        raise InvalidError("limit", "range", f"limit must be 1 to {LIMIT}.")
    return limit


def checked_choice(field: str, value: str, choices: Iterable[str]) -> str:
    """Return a value that is one of those.

    Raises
    ------
    InvalidError : it is not
    """
    choices = list(choices)
    if value not in choices:
        raise InvalidError(field, "choice", f"{field} must be one of {', '.join(choices)}.")
    return value


def checked_id(kind: str, id_: int) -> int:
    """Return an id that can exist.

    Raises
    ------
    NotFoundError : it is no positive bigint
    InvalidError : it is no integer
    """
    if type(id_) is not int:
        raise InvalidError("id", "type", "id must be an integer.")
    if not 1 <= id_ <= _BIGGEST:
        raise NotFoundError(kind, [id_])
    return id_


def checked_ids(kind: str, ids: Sequence[int]) -> list[int]:
    """Return ids once each, ascending.

    Raises
    ------
    NotFoundError : some are no positive bigint
    InvalidError : there is none, there are more than `IDS`, or one is no integer
    """
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise InvalidError("ids", "type", "ids must be a list of integers.")
    if not 1 <= len(ids) <= IDS:
        raise InvalidError("ids", "count", f"ids must be 1 to {IDS}.")
    if any(type(id_) is not int for id_ in ids):
        raise InvalidError("ids", "type", "ids must be integers.")
    unique = sorted(set(ids))
    if wrong := [id_ for id_ in unique if not 1 <= id_ <= _BIGGEST]:
        raise NotFoundError(kind, wrong)
    return unique


def valid(schema: type[Item], values: Mapping[str, Any]) -> Item:
    """Return the values as the schema has them.

    Raises
    ------
    InvalidError : the first that breaks a rule
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        place, rule, message = next(violations(error.errors()))
        raise InvalidError(str(place[0]) if place else None, rule, message) from error


def reader(schema: type[Item]) -> tuple[str, Callable[[Row], Item]]:
    """Return a schema's columns, for SELECT, and what makes an object of a row that begins so."""
    names = list(schema.model_fields)

    def read(row: Row) -> Item:
        return schema.model_validate(dict(zip(names, row, strict=False)))

    return ", ".join(names), read


def one(kind: str, id_: int, read: Callable[[Row], T]) -> Callable[[Sequence[Row]], T]:
    """Return what decodes one row, or raises NotFoundError where there is none."""

    def decode(rows: Sequence[Row]) -> T:
        if not rows:
            raise NotFoundError(kind, [id_] if id_ else [])
        return read(rows[0])

    return decode


def by_id(
    namespace: Namespace[Any],
    name: str,
    sql: str,
    id_: int,
    read: Callable[[Row], T],
    *,
    values: Mapping[str, Any] = MappingProxyType({}),
) -> Query[T]:
    """Return a query about the row of one id, which raises NotFoundError where there is none.

    Parameters
    ----------
    namespace : whose row it is
    name : of the statement; before the dot stands the kind, in the plural
    sql : the statement
    id_ : which row
    read : what is made of the row
    values : the other parameters
    """
    kind = name.partition("s.")[0]
    checked = checked_id(kind, id_)
    given = namespace._with({"id": checked, **values})
    return Query(name, sql, given, one(kind, checked, read))


def sliced(
    namespace: Namespace[Any],
    kind: type[Slice[Item]],
    read: Callable[[Row], Item],
    listing: str,
    limit: int,
    *,
    key: int | None = None,
    nullable: bool = False,
) -> Callable[[Sequence[Row]], Slice[Item]]:
    """Return what decodes up to `limit` rows, and one more as the sign that the list goes on.

    Parameters
    ----------
    namespace : whose cursor it is
    kind : the slice's type
    read : makes an item of a row, whose first column is the id
    listing : the list with its sort, order and filter, for the cursor
    limit : items of the slice
    key : the column of the sort key
    nullable : whether rows without a key come in a segment of their own
    """

    def decode(rows: Sequence[Row]) -> Slice[Item]:
        rows = [row for row in rows if row[0] is not None]
        cursor = None
        if len(rows) > limit:
            last = rows[limit - 1]
            value = None if key is None else last[key]
            position = Position(value, last[0], nullable and value is None)
            cursor = encode(namespace.secret, namespace.user_id, listing, position)
        items = [read(row) for row in rows[:limit]]
        return kind(items=items, next_cursor=cursor)

    return decode
