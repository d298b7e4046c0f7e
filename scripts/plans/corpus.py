"""The statements that applications send, as `corpus` of `[tool.schema]` names them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pglast
from pglast import split

from scripts.errors import refuse
from scripts.plans.reading import Reach
from scripts.settings import project

FIELDS = ("role", "parameters", "reads", "indexes")
"""What an SQL file says of a statement, each in a comment `-- FIELD: VALUE` below its name."""


@dataclass(frozen=True)
class Statement:
    """One statement, and how it is meant to be executed.

    Parameters
    ----------
    name : unique
    sql : with `%(name)s` for each parameter
    parameters : a value for each, the tenant's aside
    role : who sends it
    indexes : by which every plan of it reads
    reads : how many rows at the most
    buffers : how many pages at the most, or None
    features : what it combines; the queries that are shown cover each pair
    """

    name: str
    sql: str
    parameters: Mapping[str, Any]
    role: str
    indexes: tuple[str, ...]
    reads: Reach
    buffers: int | None = None
    features: frozenset[str] = frozenset()

    @cached_property
    def numbered(self) -> tuple[str, list[str]]:
        """The SQL as the driver sends it, and the names of the parameters $1, $2, …."""
        names: list[str] = []

        def number(match: re.Match[str]) -> str:
            if match[0] == "%%":
                return "%"
            if match[1] not in names:
                names.append(match[1])
            return f"${names.index(match[1]) + 1}"

        return re.sub(r"%%|%\((\w+)\)s", number, self.sql), names


def read_corpus(*, everything: bool = False) -> list[Statement]:
    """Return the statements of every source.

    Parameters
    ----------
    everything : every combination, not each part of it by itself

    Raises
    ------
    ToolError : a source is missing or malformed, or two statements have one name (`bad-corpus`)
    """
    if not project().corpus:
        fix = "name where the statements are; scripts/README.md has the form"
        raise refuse("bad-corpus", "corpus of [tool.schema] is empty", fix=fix)
    found: dict[str, Statement] = {}
    for source in project().corpus:
        is_file = str(source).endswith(".sql")
        read = _of_file(project().root / source) if is_file else _of_module(source, everything)
        try:
            for statement in read:
                if statement.name in found:
                    raise ValueError(f"{statement.name} is there twice")
                _check(statement)
                found[statement.name] = statement
        except (ImportError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            raise refuse(
                "bad-corpus",
                f"{source}: {error}",
                fix="mend it, or `corpus` of [tool.schema]; scripts/README.md has the form",
            ) from None
    return list(found.values())


def _of_module(source: str, everything: bool) -> Iterator[Statement]:
    module, _, attribute = source.partition(":")
    statements: Callable[..., Iterator[Any]] = getattr(import_module(module), attribute)
    for each in statements(everything=everything):
        yield Statement(
            each.name,
            each.sql,
            each.parameters,
            project().application_role,
            each.indexes,
            Reach[each.reads.upper()],
            each.buffers,
            each.features,
        )


def _of_file(path: Path) -> Iterator[Statement]:
    for part in re.split(r"^-- name: ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        about = dict(re.findall(r"^-- (\w+): *(.*)$", text, re.MULTILINE))
        if unknown := about.keys() - set(FIELDS):
            raise ValueError(f"{name}: no field is called {unknown.pop()}; {', '.join(FIELDS)} are")
        reads = about.get("reads", "")
        if reads.upper() not in Reach.__members__:
            words = ", ".join(str(each) for each in Reach)
            raise ValueError(f"{name}: reads is {reads!r}; it is one of {words}")
        try:
            parameters = dict(json.loads(about.get("parameters", "{}")))
        except (TypeError, ValueError):
            raise ValueError(f"{name}: its parameters are no JSON object") from None
        yield Statement(
            name,
            re.sub(r"^--.*\n", "", text, flags=re.MULTILINE).strip().removesuffix(";"),
            parameters,
            about.get("role", project().application_role),
            tuple(about.get("indexes", "").split()),
            Reach[reads.upper()],
        )


def _check(statement: Statement) -> None:
    """Raise ValueError where there is not one statement, or not a value for each parameter."""
    text, names = statement.numbered
    try:
        count = len(split(text))
    except pglast.Error as error:
        raise ValueError(f"{statement.name}: {error}") from None
    if count != 1:
        raise ValueError(f"{statement.name}: is {count} statements, not one")
    values = statement.parameters
    wanted = set(names) - {project().tenant_column}
    if set(values) != wanted:
        raise ValueError(
            f"{statement.name}: parameters are {', '.join(values) or 'none'}; "
            f"the SQL has {', '.join(sorted(wanted)) or 'none'}"
        )
