"""Commands about the local server: up, down, url, reset, clean."""

from __future__ import annotations

from typing import Annotated

import psycopg
import typer

from scripts.catalog.overview import OVERVIEW_COLUMNS, overview
from scripts.cli.run import narrator, seal_unapplied
from scripts.database import connect
from scripts.errors import refuse
from scripts.output import JsonOption, Output, command
from scripts.runner.run import migrate
from scripts.server import LocalServer, bench_server, local_server
from scripts.settings import configured_address, project
from scripts.verify.prove import prove

app = typer.Typer()


@app.command()
def up(json: JsonOption = False) -> None:
    """Start the local server, migrate and verify it, and print the addresses."""
    with command("up", json=json) as out:
        server = local_server()
        started = server.start()
        if started and not server.home.is_relative_to(project().local_folder.resolve()):
            out.say(f"the server's files are in {server.home}")
        owner = server.prepare(project().local_owner, project().local_database)
        with connect(owner, purpose="up") as connection:
            applied = bring_up_to_date(connection, server, out)
            # Mirrors take a second and can only change with the files: not where nothing was done.
            checks = prove(owner, mirrors=started or bool(applied))
            tables = overview(connection)
            version = connection.info.parameter_status("server_version")
        out.table(OVERVIEW_COLUMNS, [list(row.values()) for row in tables])
        application = server.address(project().application_role, project().local_database)
        findings = [finding for check in checks for finding in check.findings]
        verdict = "NOT as it should be" if findings else "verified"
        names = ", ".join(check.name for check in checks)
        out.say(f"\nPostgreSQL {version}, {verdict}: {names}")
        out.say(f"owner        {owner.url}")
        out.say(f"application  {application.url}")
        out.finish(
            findings,
            addresses={"owner": owner.url, "application": application.url},
            applied=applied,
            tables=tables,
        )


@app.command()
def down(json: JsonOption = False) -> None:
    """Stop the local server; its data stays."""
    with command("down", json=json) as out:
        done = local_server().stop()
        out.say(
            "stopped; the data stays (make up starts it again)" if done else "it was not running"
        )
        out.finish(done=done)


@app.command()
def url(
    role: Annotated[
        str | None, typer.Option(help="The role to connect as; the owner's by default.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the local address; the last line is the address alone."""
    with command("url", json=json) as out:
        name = role or project().local_owner
        server = local_server()
        address = server.address(name, project().local_database)
        if server.is_running:
            connect(address, purpose="url").close()  # a role that does not exist is told here
        else:
            out.say("the server is not running: make up")
        out.say(address.url)
        out.finish(url=address.url, role=name)


@app.command()
def reset(json: JsonOption = False) -> None:
    """Drop the local database, make it again and migrate it. Refused for any other database."""
    with command("reset", json=json) as out:
        server = local_server()
        configured = configured_address()
        if configured and not server.owns(configured):
            raise refuse(
                "not-local",
                f"{configured.source} is {configured.url}: reset is for the local server only",
                fix="unset it, or reset that database by its own means",
            )
        server.start()
        owner = server.recreate_database(project().local_database, project().local_owner)
        with connect(owner, purpose="reset") as connection:
            bring_up_to_date(connection, server, out)
        out.finish(done=True)


@app.command()
def clean(json: JsonOption = False) -> None:
    """Stop the local server and the bench's, and remove their data."""
    with command("clean", json=json) as out:
        done = bench_server().remove() | local_server().remove()
        out.say("removed" if done else "there was nothing to remove")
        out.finish(done=done)


def bring_up_to_date(connection: psycopg.Connection, server: LocalServer, out: Output) -> list[str]:
    """Seal and migrate the local database, and let its roles log in."""
    seal_unapplied(connection, out)
    applied = migrate(
        connection,
        project().migrations,
        roles=project().roles,
        check_seal=False,
        emit=narrator(out),
    )
    server.allow_logins()
    return applied
