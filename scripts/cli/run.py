"""Commands that run migrations, or print what would run: plan, migrate, rollback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from scripts.cli.migrations import reading
from scripts.database import connect
from scripts.errors import Finding, refuse
from scripts.output import JsonOption, Output, command, finite
from scripts.runner import seal as sealing
from scripts.runner.files import Migration
from scripts.runner.lock import describe
from scripts.runner.run import LOCK_WAIT, Emit
from scripts.runner.run import migrate as run_migrate
from scripts.runner.run import rollback as run_rollback
from scripts.runner.state import State, read_state
from scripts.runner.statements import check_statements
from scripts.settings import project
from scripts.target import is_local_server, owner_address

app = typer.Typer()

ToOption = Annotated[
    str | None, typer.Option("--to", metavar="ID", help="A migration's id or number.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        "--lock-wait", min=0, max=3600, callback=finite, help="Seconds to wait for another run."
    ),
]


@app.command()
def plan(
    to: ToOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the review page, and its JSON.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the SQL that `migrate` would run, in order. Changes nothing in the database."""
    with command("plan", json=json) as out:
        if report:
            from scripts.review.page import check_page  # noqa: PLC0415

            check_page(report)
        with reading("plan") as (connection, state):
            pending = state.pending_until(to)
            for migration in pending:
                check_statements(migration, migration.forward)
            show(pending, out)
            if not pending:
                out.say("-- nothing to do: every migration is applied")
            findings: Sequence[Finding] = state.findings()
            fields: dict[str, Any] = {"pending": [migration.as_dict() for migration in pending]}
            if report:
                findings = write_review(report, connection, state, pending)
                fields["report"] = str(report)
                out.say(f"-- {report} and its JSON tell what comes of it")
        out.finish(findings, **fields)


@app.command()
def migrate(
    to: ToOption = None, lock_wait: WaitOption = LOCK_WAIT, json: JsonOption = False
) -> None:
    """Apply what is pending, each file in one transaction with its record."""
    with command("migrate", json=json, stream=True) as out:
        address = owner_address()
        local = is_local_server(address)
        with connect(address, purpose="migrate") as connection:
            if local:
                seal_unapplied(connection, out)
            applied = run_migrate(
                connection,
                project().migrations,
                roles=project().roles,
                target=to,
                check_seal=not local,
                lock_wait=lock_wait,
                emit=narrator(out),
            )
        if not applied:
            out.say(f"nothing to do: {nothing(to)}")
        out.finish(applied=applied)


@app.command()
def rollback(
    to: ToOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="How many to undo; 1 without --to.")
    ] = None,
    accept_data_loss: Annotated[
        bool, typer.Option("--accept-data-loss", help="Go on where a rollback cannot restore rows.")
    ] = False,
    lock_wait: WaitOption = LOCK_WAIT,
    json: JsonOption = False,
) -> None:
    """Undo the newest migration, the newest N, or all after ID (0000: all)."""
    with command("rollback", json=json, stream=True) as out:
        if to and steps:
            raise refuse("usage", "--to and --steps exclude each other", status=2)
        address = owner_address()
        local = is_local_server(address)
        with connect(address, purpose="rollback") as connection:
            reverted = run_rollback(
                connection,
                project().migrations,
                target=to,
                steps=steps or 1,
                accept_data_loss=accept_data_loss or local,
                check_seal=not local,
                lock_wait=lock_wait,
                emit=narrator(out),
            )
        if not reverted:
            out.say("nothing to do: no migration is applied after that")
        out.finish(reverted=reverted)


def nothing(to: str | None) -> str:
    """Return why nothing was applied, in words."""
    return f"nothing is pending up to {to}" if to else "every migration is applied"


def show(pending: Sequence[Migration], out: Output) -> None:
    """Print the SQL of migrations as it stands in their files."""
    for migration in pending:
        file = project().relative(migration.forward.path)
        out.say(f"-- {file}\n\n{migration.forward.text.strip()}\n")


def write_review(
    path: Path, connection: psycopg.Connection, state: State, pending: list[Migration]
) -> Sequence[Finding]:
    """Write the review page of what is pending; return what is wrong with the files, or with it."""
    # Here, for it imports what plans need, which takes half a second.
    from scripts.cli.progress import progress_bar  # noqa: PLC0415
    from scripts.review.page import write_page  # noqa: PLC0415
    from scripts.review.review import review  # noqa: PLC0415

    findings = state.findings()
    with progress_bar() as bar:  # where the files are in doubt, so is what would run
        found = None if findings else review(connection, state, pending, progress=bar)
    write_page(
        path,
        found,
        title="Review of pending migrations",
        facts={
            "database": owner_address().url,
            "PostgreSQL": connection.info.parameter_status("server_version") or "",
            "newest applied": state.newest or "none",
        },
        findings=findings,
    )
    return found.findings if found else findings


def seal_unapplied(connection: psycopg.Connection, out: Output) -> None:
    """Seal by itself, as `up` and `migrate` do on the local server."""
    state = read_state(connection, project().migrations)
    findings = state.findings()
    if not findings:  # otherwise the run that follows tells what is wrong
        for id_ in sealing.seal(state.migrations, state.folder, state.applied):
            out.say(f"sealed {id_}")


def narrator(out: Output) -> Emit:
    """Return what tells a run's events: JSON events, or lines for people."""

    def emit(event: str, **fields: object) -> None:
        out.event(event, **fields)
        if event == "waiting":
            # The events' fields are of many types; a holder is always what `describe` takes.
            out.say(f"waiting for {fields['for']}: {describe(fields['holder'])}")  # type: ignore[arg-type]
        elif event == "data-loss":
            out.say(f"{fields['id']} cannot bring back {fields['message']}")
        elif event in ("applied", "reverted"):
            out.say(f"{event} {fields['id']}  {fields['ms']} ms")
        elif event == "branch":
            # As above: a branch is what `Branch.as_dict` returns.
            name = fields["branch"]["name"]  # type: ignore[index]
            out.say(f"branch {name}, {'made anew from its parent' if fields['reused'] else 'made'}")
        elif event == "restore-point":
            out.say(f"restore point {fields['at']:%Y-%m-%d %H:%M:%S} UTC, lsn {fields['lsn']}")
            out.say(f"the way back: {fields['back']}")
        elif event == "deleted":
            out.say(f"branch {fields['branch']} deleted")

    return emit
