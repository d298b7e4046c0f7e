"""What pending migrations would do: to the schema, to the plans, and what squawk says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from scripts.errors import Finding, ToolError
from scripts.review.plans import Plans, Progress, compare_plans
from scripts.review.schemas import Schema, schema_diff
from scripts.review.squawk import Note, notes
from scripts.runner.files import Migration
from scripts.runner.state import State, refuse_findings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Review:
    """What is known of pending migrations before they run.

    Parameters
    ----------
    migrations : the pending ones in order, each with what squawk says of it
    schema_diff : of the snapshot; empty where it stays as it is, None where it could not be made
    plans : what becomes of them, or None where there is no corpus or they could not be made
    findings : plans that are not as they are meant to be afterwards, and what could not be made
    """

    migrations: Sequence[tuple[Migration, Sequence[Note]]]
    schema_diff: str | None
    plans: Plans | None
    findings: Sequence[Finding]


def review(
    connection: psycopg.Connection,
    state: State,
    pending: Sequence[Migration],
    *,
    progress: Progress = lambda _name, _count, _total: None,
) -> Review:
    """Review pending migrations. Of the database only statistics are read; nothing waits for it.

    A part that cannot be made, such as plans where a migration fails, is a finding.

    Parameters
    ----------
    connection : in autocommit mode, to the database as it is before them
    state : its state
    pending : the first of its pending migrations, or all
    progress : told what is planned, how many more plans are made, of how many

    Raises
    ------
    ToolError : files and database do not agree, so that it is unknown what would run
    """
    refuse_findings(state.findings())
    before = Schema(state.folder, state.newest)
    after = Schema(state.folder, pending[-1].id) if pending else before
    findings: list[Finding] = []

    def made(make: Callable[[], Value]) -> Value | None:
        try:
            return make()
        except ToolError as error:
            findings.extend(error.findings)
            return None

    squawk = made(lambda: notes(pending)) or {}
    compared = made(lambda: compare_plans(connection, before, after, progress))
    plans, faults = compared or (None, [])
    diff = made(lambda: schema_diff(before, after))
    return Review(
        [(migration, squawk.get(migration.id, [])) for migration in pending],
        diff,
        plans,
        list(dict.fromkeys([*findings, *faults])),
    )
