"""A run of the runner: what `migrate` and `rollback` do, from the lock to the last record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from scripts.errors import Finding, ToolError
from scripts.runner.apply import run_roles, run_script
from scripts.runner.files import Migration, Script
from scripts.runner.ledger import Ledger
from scripts.runner.lock import migration_lock
from scripts.runner.rows import hidden_rows
from scripts.runner.state import State, read_state, refuse_findings
from scripts.runner.statements import check_statements

LOCK_WAIT = 30.0
"""Seconds to wait for another run, unless told otherwise."""

Emit = Callable[..., None]


def silent(event: str, **fields: object) -> None:
    """Take an event and tell nobody."""


def migrate(
    connection: psycopg.Connection,
    folder: Path,
    *,
    roles: Path | None = None,
    target: str | None = None,
    check_seal: bool = True,
    restore_point: bool = False,
    lock_wait: float = LOCK_WAIT,
    emit: Emit = silent,
) -> list[str]:
    """Apply the pending migrations in order.

    Parameters
    ----------
    connection : of the owner, direct, from `database.connect`
    folder : of the migrations
    roles : SQL that makes the cluster's roles; runs before the first pending file
    target : the last id or number to apply; all pending without one
    check_seal : refuse where checksums.txt does not match the files
    restore_point : record time and LSN before the first pending file, and tell `restore-point`
    lock_wait : seconds to wait for another run
    emit : told `waiting`, `applying` and `applied` as they happen

    Returns
    -------
    The ids that were applied.

    Raises
    ------
    ToolError : a refusal before anything ran, or the statement that failed; what is applied by then
        stays, and the file that failed has left nothing
    """
    with migration_lock(connection, wait=lock_wait, emit=emit):
        state, pending = runnable(connection, folder, target, check_seal=check_seal)
        refuse_findings(hidden_rows(connection, [migration.forward for migration in pending]))
        ledger = Ledger(connection)
        if pending:
            ledger.prepare()
            if restore_point:
                at, lsn = ledger.record_restore_point(state.newest)
                emit("restore-point", at=at, lsn=lsn)
            if roles:
                run_roles(connection, roles)
        for migration in pending:
            emit("applying", id=migration.id, file=migration.forward.path.name)
            ms = run_script(connection, ledger, migration, migration.forward)
            emit("applied", id=migration.id, ms=ms)
        return [migration.id for migration in pending]


def runnable(
    connection: psycopg.Connection,
    folder: Path,
    target: str | None = None,
    *,
    check_seal: bool = True,
) -> tuple[State, list[Migration]]:
    """Return files against database, and what a run would apply; parameters as for `migrate`.

    Raises
    ------
    ToolError : what forbids a run
    """
    state = read_state(connection, folder)
    refuse_findings(state.findings() + (state.seal_findings() if check_seal else []))
    pending = state.pending_until(target)
    for migration in pending:
        check_statements(migration, migration.forward)
    return state, pending


def rollback(
    connection: psycopg.Connection,
    folder: Path,
    *,
    target: str | None = None,
    steps: int = 1,
    accept_data_loss: bool = False,
    check_seal: bool = True,
    lock_wait: float = LOCK_WAIT,
    emit: Emit = silent,
) -> list[str]:
    """Undo applied migrations, newest first.

    Parameters
    ----------
    connection, folder, check_seal, lock_wait, emit : as for `migrate`; told `data-loss`,
        `reverting` and `reverted`
    target : the id or number that stays the newest; `0000` undoes all
    steps : how many to undo where there is no target
    accept_data_loss : go on where a rollback says that it cannot restore rows

    Returns
    -------
    The ids that were undone.

    Raises
    ------
    ToolError : as for `migrate`
    """
    with migration_lock(connection, wait=lock_wait, emit=emit):
        state = read_state(connection, folder)
        files = {migration.id: migration for migration in state.migrations}
        doomed = state.applied_after(target, steps)
        refuse_findings([f for f in state.findings() if f.code == "missing" and f.object in doomed])
        refuse_findings(state.seal_findings() if check_seal else [])
        pairs = [(files[id_], _rollback_of(files[id_])) for id_ in doomed]
        for migration, script in pairs:
            check_statements(migration, script)
        losses = [
            script.finding("data-loss", f"cannot bring back {loss}", fix="--accept-data-loss")
            for _, script in pairs
            if (loss := script.directives.get("data-loss"))
        ]
        if not accept_data_loss:
            refuse_findings(losses)
        refuse_findings(hidden_rows(connection, [script for _, script in pairs]))
        ledger = Ledger(connection)
        ledger.prepare()  # what yoyo applied has no history yet
        for migration, script in pairs:
            if loss := script.directives.get("data-loss"):
                emit("data-loss", id=migration.id, message=loss)
            emit("reverting", id=migration.id, file=script.path.name)
            ms = run_script(connection, ledger, migration, script)
            emit("reverted", id=migration.id, ms=ms)
        return doomed


def _rollback_of(migration: Migration) -> Script:
    if migration.rollback:
        return migration.rollback
    raise ToolError(
        Finding(
            "no-rollback",
            f"{migration.id} has no rollback file",
            object=migration.id,
            fix=f"write {migration.id}.rollback.sql, or restore a backup",
        )
    )
