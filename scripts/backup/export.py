"""The tables of the schema public as CSV files, all of one moment."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import psycopg

from scripts.address import Address
from scripts.backup.contents import Progress, Table, one_moment
from scripts.backup.files import check_written, flush, new_folder
from scripts.catalog.model import BOOKKEEPING
from scripts.database import connect
from scripts.runner.ledger import read_applied

VERSION = 1
"""Of the manifest; raised when a field changes its meaning."""


def export(address: Address, folder: Path, *, progress: Progress) -> list[dict[str, Any]]:
    """Write each table into a CSV file with a header, and a manifest, into a new folder.

    Parameters
    ----------
    address : of the owner, direct
    folder : appears when everything in it is on the disk and was read again
    progress : told how far it is

    Returns
    -------
    `{table, file, rows, bytes, sha256}` of each table, as the manifest has it.

    Raises
    ------
    ToolError : the folder exists, or row security hides rows
    """
    with (
        new_folder(folder) as partial,
        connect(address, purpose="export", read_only=True) as connection,
    ):
        with one_moment(connection) as tables:
            ours = [t for t in tables if t.schema == "public" and t.bare not in BOOKKEEPING]
            newest = max(read_applied(connection), default=None)
            written = []
            for table in ours:
                written.append(_write(connection, table, partial))
                progress("tables", 1, len(ours))
        for each in written:
            check_written(partial / each["file"], each["sha256"])
        document = {
            "v": VERSION,
            "database": connection.info.dbname,
            "server_version": connection.info.parameter_status("server_version"),
            "newest": newest,
            "tables": written,
        }
        manifest = partial / "manifest.json"
        manifest.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        flush(manifest)
    return written


def file_name(table: str) -> str:
    """Return a name that every file system can hold, another one for every table.

    All but small letters, digits and `_` is percent-encoded; some file systems hold A for a.
    """
    encoded = re.sub("[^a-z0-9_]", lambda found: _percent(found[0]), table)
    return f"{encoded}.csv"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _write(connection: psycopg.Connection, table: Table, folder: Path) -> dict[str, Any]:
    name = file_name(table.bare)
    digest, size = hashlib.sha256(), 0
    query = f"copy (select * from only {table.name}) to stdout (format csv, header)"
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, connection.cursor() as cursor:
        with cursor.copy(query.encode()) as copy:
            for chunk in copy:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        rows = cursor.rowcount
    return {
        "table": table.name,
        "file": name,
        "rows": rows,
        "bytes": size,
        "sha256": digest.hexdigest(),
    }
