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
            told = "expected, not found" if self.expected else "found, not expected"
            return f"{self.object}: {told}"
        # Of longer texts only the first line that differs.
        texts = [_shown(value).split("\n") for value in (self.expected, self.found)]
        pairs = zip_longest(*texts, fillvalue="none")
        expected, found = next(pair for pair in pairs if pair[0] != pair[1])
        return (
            f"{self.object}: {self.attribute}: expected {expected.strip()}, found {found.strip()}"
        )


def diff(expected: Catalog, actual: Catalog) -> list[Difference]:
    """Compare two catalogs, in the order of kind and name.

    Of an object that is missing or not expected, nothing that belongs to it is listed.
    """
    differences = []
    for key in sorted(expected.keys() | actual.keys()):
        wanted, found = expected.get(key), actual.get(key)
        if wanted and found:
            one, other = wanted.attributes, found.attributes
            differences += [
                Difference(wanted, name, one.get(name), other.get(name))
                for name in sorted(one.keys() | other.keys())
                if name != POSITION and not _same(key, name, one.get(name), other.get(name))
            ]
        elif wanted and (wanted.parent is None or wanted.parent in actual):
            differences.append(Difference(wanted, None, True, False))
        elif found and (found.parent is None or found.parent in expected):
            differences.append(Difference(found, None, False, True))
    wanted_order, found_order = _order(expected, actual), _order(actual, expected)
    return differences + [
        Difference(expected[table], "order of columns", columns, found_order[table])
        for table, columns in wanted_order.items()
        if columns != found_order[table]
    ]


def _same(key: Key, attribute: str, one: Value, other: Value) -> bool:
    if one == other:
        return True
    if attribute not in EXPRESSIONS or key[0] in VERBATIM:
        return False
    return isinstance(one, str) and isinstance(other, str) and same_definition(one, other)


def _order(catalog: Catalog, other: Catalog) -> dict[Key, str]:
    """The columns of each table that the other catalog has too, in order."""
    columns: defaultdict[Key, list[tuple[Value, str]]] = defaultdict(list)
    for key, item in catalog.items():
        if item.parent and POSITION in item.attributes and key in other:
            name = item.name.removeprefix(f"{item.parent[1]}.")
            columns[item.parent].append((item.attributes[POSITION], name))
    return {
        table: ", ".join(name for _, name in sorted(columns[table])) for table in sorted(columns)
    }


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
