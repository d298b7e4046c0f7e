"""What a database holds, as plain values that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BOOKKEEPING = frozenset(
    {"_yoyo_migration", "_yoyo_log", "_yoyo_version", "yoyo_lock", "migration_history"}
)
"""Tables in `public` that the tools and yoyo keep for themselves: no part of any schema."""

Key = tuple[str, str]
"""Kind and name of an object."""

Value = str | int | bool | None


@dataclass(frozen=True)
class Object:
    """One object of a database, or the grants of one role on one object.

    Parameters
    ----------
    kind : PostgreSQL's word for it, in lower case
    name : the name in SQL, with its schema and quoted where it must be
    parent : the object that it goes with when that is dropped
    attributes : what SQL says of it; None where it says nothing
    """

    kind: str
    name: str
    parent: Key | None
    attributes: Mapping[str, Value]

    @property
    def key(self) -> Key:
        """What identifies the object in its database."""
        return self.kind, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


Catalog = Mapping[Key, Object]
