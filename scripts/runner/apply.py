"""One file on the server: its statements and its record, in one transaction where that can be."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import errors

from scripts.database import LOCK_TIMEOUT, set_session
from scripts.errors import Finding, ToolError
from scripts.runner.files import Migration, Script
from scripts.runner.ledger import Ledger
from scripts.runner.statements import ConcurrentIndex, Statement, concurrent_index, split


def run_script(
    connection: psycopg.Connection, ledger: Ledger, migration: Migration, script: Script
) -> int:
    """Run a migration's forward or rollback file and record it.

    Parameters
    ----------
    connection : holds the migration lock, in autocommit mode
    ledger : marks, logs and records
    migration, script : the migration, and which of its files

    Returns
    -------
    How long the statements took, in milliseconds.

    Raises
    ------
    ToolError : PostgreSQL refused a statement, which is named by file, line and column; or a
        statement that is not transactional did not take effect
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    try:
        if not migration.transactional:
            _run_alone(connection, script)
        with connection.transaction():
            if migration.transactional:
                for statement in split(script):
                    _execute(connection, script, statement)
            duration_ms = round((time.monotonic() - started) * 1000)
            # What the file has set must reach neither the record nor the next file.
            connection.execute("reset role")
            set_session(connection)
            ledger.record(migration, script, started_at, duration_ms)
    except psycopg.Error as error:  # of the record, or at commit: a deferred constraint
        raise ToolError(_explain(error, script, offset=None)) from error
    return duration_ms


def run_roles(connection: psycopg.Connection, path: Path) -> None:
    """Run the SQL that makes the cluster's roles, as one transaction.

    Raises
    ------
    ToolError : PostgreSQL refused a statement
    """
    script = Script(path, path.read_text("utf-8"), "", {})
    try:
        connection.execute(script.text.encode())
    except psycopg.Error as error:
        raise ToolError(_explain(error, script, offset=0)) from error


def _run_alone(connection: psycopg.Connection, script: Script) -> None:
    """Run the one statement of a file that is not transactional, and see that it took effect."""
    (statement,) = split(script)
    index = concurrent_index(statement)
    if index is None:
        _execute(connection, script, statement)
        return
    _drop_invalid(connection, index)
    try:
        _execute(connection, script, statement)
    except BaseException:
        with suppress(psycopg.Error):  # the first error is the one to tell
            _drop_invalid(connection, index)
        raise
    if _validity(connection, index) is not (True if index.builds else None):
        raise ToolError(
            script.finding(
                "invalid-index",
                f"{index.name} is {'not valid' if index.builds else 'still there'} afterwards",
                statement.offset,
                "run it again",
            )
        )


def _execute(connection: psycopg.Connection, script: Script, statement: Statement) -> None:
    try:
        connection.execute(statement.text.encode())
    except psycopg.Error as error:
        raise ToolError(_explain(error, script, statement.offset)) from error


def _explain(error: psycopg.Error, script: Script, offset: int | None) -> Finding:
    """Return the finding that tells PostgreSQL's error; `offset` is where its statement starts."""
    diagnosis = error.diag
    message = f"{diagnosis.message_primary or error} ({error.sqlstate or 'connection lost'})"
    code, fix = "sql", "mend the file and run it again; nothing of it was applied"
    if isinstance(error, errors.LockNotAvailable):
        code, fix = "lock-timeout", "run it again when the table is less busy"
        message += f": no lock within {LOCK_TIMEOUT}"
    elif "row-level security policy" in message:
        code, fix = "needs-bypassrls", "run it as a role with BYPASSRLS"
    elif error.sqlstate is None:
        fix = "python -m scripts status tells whether it was applied"
    if offset is not None and diagnosis.statement_position:
        offset += int(diagnosis.statement_position) - 1
    notes = {
        "detail": diagnosis.message_detail,
        "hint": diagnosis.message_hint,
        "context": diagnosis.context,
    }
    finding = script.finding(code, message, offset, fix)
    lines = [f"    {name}: {text}" for name, text in notes.items() if text]
    return replace(finding, message="\n".join([finding.message, *lines]))


def without_values(finding: Finding) -> Finding:
    """Return a finding without what `_explain` adds to its message and may quote a row."""
    text, *added = re.split(r"\n    (?=(?:detail|hint|context): )", finding.message)
    kept = [each for each in added if each.startswith("hint: ")]
    if len(kept) < len(added):
        kept.append("detail: left out here, for it may quote a row")
    return replace(finding, message="\n    ".join([text, *kept]))


def _drop_invalid(connection: psycopg.Connection, index: ConcurrentIndex) -> None:
    """Drop what an interrupted CREATE INDEX CONCURRENTLY has left: IF NOT EXISTS would keep it."""
    if index.builds and _validity(connection, index) is False:
        connection.execute(f"drop index concurrently if exists {index.name}".encode())


def _validity(connection: psycopg.Connection, index: ConcurrentIndex) -> bool | None:
    """Return whether the index is valid and ready; None where there is none."""
    query = "select indisvalid and indisready from pg_index where indexrelid = to_regclass(%s)"
    row = connection.execute(query, [index.name]).fetchone()
    return bool(row[0]) if row else None
