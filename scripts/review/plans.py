"""The plans that change with the pending migrations, at the database's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from scripts.errors import Finding, ToolError
from scripts.plans.corpus import read_corpus
from scripts.plans.statistics import Described, Statistics, export, read_statistics
from scripts.plans.survey import Outcome, faults, survey
from scripts.review.schemas import Schema
from scripts.settings import project

ENOUGH = 1_000_000
"""Rows from which on a database's own statistics are used; fewer are planned otherwise."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plans:
    """What became of the plans.

    Parameters
    ----------
    rows : of the counted table
    statistics : whose they are, and of how many rows, in words
    statements : how many were planned
    changes : before and after, of each statement and kind of tenant; in the order of the corpus
    """

    rows: int
    statistics: str
    statements: int
    changes: Sequence[tuple[Outcome, Outcome]]


def compare_plans(
    connection: psycopg.Connection, before: Schema, after: Schema, progress: Progress
) -> tuple[Plans | None, list[Finding]]:
    """Plan the corpus on two schemas; None where the project has none, or no statistics.

    Parameters
    ----------
    connection : to the database whose statistics are used
    before, after : the schemas; the same one where nothing is pending
    progress : told what is planned, how many more plans are made, of how many

    Returns
    -------
    What changes, and a finding for each statement that is not planned as it is meant to be after.

    Raises
    ------
    ToolError : a migration fails; corpus or statistics are malformed, or tell nothing of a table
    """
    if not (project().corpus and project().statistics.exists()):
        return None, []
    corpus = read_corpus()
    statistics, rows, whose, options = _statistics(connection)

    def outcomes(schema: Schema, name: str) -> list[Outcome]:
        def tell(count: int, total: int) -> None:
            progress(name, count, total)

        return survey(schema.build, statistics, corpus, [rows], progress=tell)

    old = outcomes(before, "plans before")
    new = outcomes(after, "plans after") if after is not before else old
    found = {(each.statement, each.tenant): each for each in new}
    pairs = ((each, found[each.statement, each.tenant]) for each in old)
    order = {statement.name: number for number, statement in enumerate(corpus)}
    changes = sorted(
        ((one, other) for one, other in pairs if one != other),
        key=lambda change: order[change[0].statement],
    )
    return Plans(rows, whose, len(corpus), changes), list(faults(new, options))


def _statistics(connection: psycopg.Connection) -> tuple[Statistics, int, str, str]:
    """Return the statistics, how many rows to plan for, both in words, and `plans show`'s options.

    A table or a column that the database's own do not tell of is as the project says.
    """
    known = read_statistics(project().statistics)
    file = project().relative(project().statistics)
    counted = known.counted
    try:
        own = export(connection, counted)["tables"]
        rows = own[counted]["rows"]
        why = f"the database has {rows:,}"
    except ToolError as error:
        rows, why = 0, error.findings[0].message
    if rows < ENOUGH:
        return known, ENOUGH, f"{file}, scaled to {ENOUGH:,} rows of {counted}: {why}", ""
    others = known.scaled(rows).tables
    tables = {**others, **{name: _with(own[name], others.get(name)) for name in own}}
    told = f"the database's own, at {rows:,} rows of {counted}"
    if missing := sorted(others.keys() - own.keys()):
        told += f"; of {', '.join(missing)} those of {file}"
    return Statistics(counted, tables), rows, told, " --statistics FILE"


def _with(own: Described, known: Described | None) -> dict[str, Any]:
    """Return a table's own description; columns that it does not have are as known."""
    return {**own, "columns": {**(known["columns"] if known else {}), **own["columns"]}}
