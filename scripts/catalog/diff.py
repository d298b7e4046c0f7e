"""How two catalogs differ."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest

from scripts.catalog.canonical import same_definition
from scripts.catalog.model import Catalog, Key, Object, Value

POSITION = "position"
"""The attribute of a column that counts only among the columns that both tables have."""

EXPRESSIONS = frozenset({"definition", "default", "generated", "using", "check"})
"""The attributes that are SQL, which PostgreSQL may print in more than one way."""

VERBATIM = frozenset({"function", "procedure"})
"""Kinds whose definition is kept as it was written."""


@dataclass(frozen=True)
class Difference:
    """One way in which a database is not as expected.

    Parameters
    ----------
    object : the object, as expected; as found where nothing was expected
    attribute : what differs; None where the whole object is missing or not expected
    expected, found : the two values; for a whole object, whether it is there
    """

    object: Object
    attribute: str | None
    expected: Value
    found: Value

    def __str__(self) -> str:
        if self.attribute is None:
            return (
                f"{self.object}: expected, not found"
                if self.expected
                else (f"{self.object}: found, not expected")
            )
        expected, found = _where_they_part(self.expected, self.found)
        return f"{self.object}: {self.attribute}: expected {expected}, found {found}"


def diff(expected: Catalog, actual: Catalog) -> list[Difference]:
    """Compare two catalogs, in the order of kind and name.

    Of an object that is missing or not expected, nothing that belongs to it is listed.
    """
    differences = []
    for key in sorted(expected.keys() | actual.keys()):
        wanted, found = expected.get(key), actual.get(key)
        if wanted and found:
            differences += [
                Difference(wanted, name, value, found.attributes[name])
                for name, value in wanted.attributes.items()
                if name != POSITION and not _same(wanted, name, value, found.attributes[name])
            ]
        elif wanted and not _lacks_parent(wanted, actual):
            differences.append(Difference(wanted, None, True, False))
        elif found and not _lacks_parent(found, expected):
            differences.append(Difference(found, None, False, True))
    return differences + _reordered(expected, actual)


def _same(item: Object, attribute: str, one: Value, other: Value) -> bool:
    if one == other:
        return True
    if attribute not in EXPRESSIONS or item.kind in VERBATIM:
        return False
    return isinstance(one, str) and isinstance(other, str) and same_definition(one, other)


def _lacks_parent(item: Object, other: Catalog) -> bool:
    return item.parent is not None and item.parent not in other


def _reordered(expected: Catalog, actual: Catalog) -> list[Difference]:
    """Tables whose columns, those that both have, come in another order."""
    wanted, found = _columns(expected, actual), _columns(actual, expected)
    return [
        Difference(expected[table], "order of columns", wanted[table], found[table])
        for table in sorted(wanted)
        if wanted[table] != found[table]
    ]


def _columns(catalog: Catalog, other: Catalog) -> dict[Key, str]:
    """The columns of each table that the other catalog has too, in order."""
    columns: defaultdict[Key, list[Object]] = defaultdict(list)
    for item in catalog.values():
        if item.kind == "column" and item.parent and item.key in other:
            columns[item.parent].append(item)
    return {
        table: ", ".join(
            item.name.removeprefix(f"{table[1]}.")
            for item in sorted(items, key=lambda item: item.attributes[POSITION] or 0)
        )
        for table, items in columns.items()
    }


def _where_they_part(expected: Value, found: Value) -> tuple[str, str]:
    """The two values in one line; of longer texts the first line that differs."""
    if isinstance(expected, str) and isinstance(found, str):
        lines = zip_longest(expected.splitlines(), found.splitlines())
        pairs = [(one, other) for one, other in lines if one != other]
        if pairs and "\n" in expected + found:
            return _shown(pairs[0][0]), _shown(pairs[0][1])
    return _shown(expected), _shown(found)


def _shown(value: Value) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value).strip()
