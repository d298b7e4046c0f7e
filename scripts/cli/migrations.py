"""Commands about migrations that change no database: status, history, seal, new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import psycopg
import typer

from scripts.database import connect
from scripts.errors import ToolError
from scripts.output import JsonOption, command
from scripts.runner import create
from scripts.runner import seal as sealing
from scripts.runner.files import read_migrations
from scripts.runner.ledger import read_history
from scripts.runner.state import State, read_state
from scripts.settings import project
from scripts.target import is_local_server, owner_address

app = typer.Typer()


@contextmanager
def reading(purpose: str) -> Iterator[tuple[psycopg.Connection, State]]:
    """Open a read-only session on the owner's database, and read what is applied."""
    with connect(owner_address(), purpose=purpose, read_only=True) as connection:
        yield connection, read_state(connection, project().migrations)


@app.command()
def status(
    check: Annotated[bool, typer.Option("--check", help="Exit 3 where files are pending.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell applied and pending files, and what is wrong with them."""
    with command("status", json=json) as out:
        address = owner_address()
        with reading("status") as (_, state):
            findings = state.findings()
        if not is_local_server(address):
            findings += state.seal_findings()
        pending = [migration.id for migration in state.pending]
        # Another tool's mark has no checksum: what the file held then is unknown.
        applied = [
            {"id": row.id, "applied_at": row.applied_at, "recorded": row.checksum is not None}
            for row in state.applied.values()
        ]
        rows = [
            (
                row["id"],
                f"applied {row['applied_at']:%Y-%m-%d %H:%M}"
                + ("" if row["recorded"] else ", not by this runner"),
            )
            for row in applied
        ]
        out.table(["migration", address.url], [*rows, *((id_, "pending") for id_ in pending)])
        if pending and not findings:
            out.say(f"{len(pending)} pending; next: python -m scripts plan, then migrate")
        out.finish(
            findings,
            status=3 if check and pending and not findings else None,
            database=address.url,
            applied=applied,
            pending=pending,
        )


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many entries.")] = 50,
    json: JsonOption = False,
) -> None:
    """Print the record, newest first: what, when, who, from where, how long."""
    with command("history", json=json) as out:
        with connect(owner_address(), purpose="history", read_only=True) as connection:
            entries = read_history(connection, limit)
        out.table(
            ["when", "what", "migration", "ms", "who", "commit", "lsn before"],
            [
                (
                    f"{entry['started_at']:%Y-%m-%d %H:%M:%S}",
                    entry["operation"],
                    entry["migration_id"],
                    entry["duration_ms"],
                    f"{entry['os_user']}@{entry['host']} as {entry['role']}",
                    f"{(entry['git_commit'] or 'none')[:10]}{'' if entry['git_clean'] else ' +'}",
                    entry.get("lsn") or "",
                )
                for entry in entries
            ],
        )
        out.finish(entries=entries)


@app.command()
def seal(
    check: Annotated[
        bool, typer.Option("--check", help="Compare only; needs no database.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write migrations/checksums.txt for the files that are not applied yet."""
    with command("seal", json=json) as out:
        folder = project().migrations
        migrations = read_migrations(folder)
        if check:
            out.finish(sealing.check(migrations, folder), sealed=[])
            return
        try:
            address = owner_address()
        except ToolError as error:
            if error.findings[0].code != "settings":
                raise
            applied = None
        else:
            with connect(address, purpose="seal", read_only=True) as connection:
                applied = read_state(connection, folder).applied
        sealed = sealing.seal(migrations, folder, applied)
        for id_ in sealed or ["nothing to do: checksums.txt matches the files"]:
            out.say(id_)
        out.finish(sealed=sealed)


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="What it does: verb-object, such as add-orders-note.")
    ],
    json: JsonOption = False,
) -> None:
    """Make the next numbered pair of migration files."""
    with command("new", json=json) as out:
        files = [project().relative(path) for path in create.new(project().migrations, name)]
        for file in files:
            out.say(file)
        out.say("next: write both, then python -m scripts plan")
        out.finish(files=files)
