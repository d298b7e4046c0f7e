"""Commands about copies of the data: backup, restore, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.backup.archive import backup as back_up
from scripts.backup.archive import restore as bring_back
from scripts.backup.export import export as write_tables
from scripts.cli.progress import progress_bar
from scripts.output import JsonOption, command
from scripts.server import local_server
from scripts.settings import project
from scripts.target import is_local_server, owner_address

app = typer.Typer()

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="FILE.json stands beside it.")]


@app.command()
def backup(file: BackupFile, json: JsonOption = False) -> None:
    """Write a whole database into one file, which appears when it is whole and proven."""
    with command("backup", json=json) as out:
        with progress_bar() as advance:
            document = back_up(owner_address(), file, progress=advance)
        size, tables = document["bytes"], document["tables"]
        rows = sum(table["rows"] for table in tables)
        out.say(
            f"{file}: {size:,} bytes, {len(tables)} tables, {rows:,} rows; read again and whole"
        )
        out.finish(file=str(file), bytes=size, sha256=document["sha256"], tables=tables)


@app.command()
def restore(file: BackupFile, json: JsonOption = False) -> None:
    """Make an empty database what the backup holds, and prove it equal."""
    with command("restore", json=json) as out:
        address = owner_address()
        if is_local_server(address):
            local_server().prepare(project().local_owner, address.database)
        with progress_bar() as advance:
            tables = bring_back(address, file, roles=project().roles, progress=advance)
        rows = sum(table["rows"] for table in tables)
        out.say(f"{len(tables)} tables, {rows:,} rows, equal to the backup's")
        out.finish(tables=tables)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist.")],
    json: JsonOption = False,
) -> None:
    """Write each table as CSV, all of one moment, and a manifest with checksums."""
    with command("export", json=json) as out:
        with progress_bar() as advance:
            tables = write_tables(owner_address(), folder, progress=advance)
        out.table(
            ["table", "rows", "bytes", "file"],
            [[each["table"], each["rows"], each["bytes"], each["file"]] for each in tables],
        )
        out.finish(folder=str(folder), tables=tables)
