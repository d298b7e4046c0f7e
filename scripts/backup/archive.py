"""A backup of a whole database in one file, and the way back, both proven."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from scripts.address import Address
from scripts.backup.contents import Progress, differences, measure, one_moment
from scripts.backup.files import CHUNK, check_written, description_of, new_pair, sha256_of
from scripts.backup.program import Client, client_for
from scripts.catalog.model import BOOKKEEPING
from scripts.catalog.read import read_catalog
from scripts.database import LOCK_TIMEOUT, connect
from scripts.errors import Finding, ToolError, refuse
from scripts.runner.apply import run_roles
from scripts.runner.ledger import protect_history, read_applied
from scripts.runner.lock import migration_lock
from scripts.runner.run import LOCK_WAIT, silent

EMPTY = ("schema", "public")
"""All that an empty database holds."""

VERSION = 1
"""Of the description; raised when a field changes its meaning."""

# Lines of pg_restore's list. The runner revokes what would let the owner rewrite the history; an
# archive has that under the owner's name, which is another one on every host.
BOOKKEEPING_GRANTS = re.compile(
    rb"\d+; \d+ \d+ ACL public TABLE (%b) " % "|".join(sorted(BOOKKEEPING)).encode()
)

# Sent by pg_restore of 17 and later, before anything else; a server before 17 refuses it.
TRANSACTION_TIMEOUT = b"\nSET transaction_timeout = 0;\n"


def backup(address: Address, file: Path, *, progress: Progress) -> dict[str, Any]:
    """Write all that a database holds into a new file, and what that is into a second beside it.

    Parameters
    ----------
    address : of the owner, direct
    file : the archive; it appears last, when it is whole, on the disk and read again
    progress : told how far it is

    Returns
    -------
    The description, as it stands in `FILE.json`.

    Raises
    ------
    ToolError : a file exists, no pg_dump fits, row security hides rows, or pg_dump failed
    """
    with (
        new_pair(file) as (archive, description),
        connect(address, purpose="backup", read_only=True) as connection,
    ):
        client = client_for(connection, address)
        with one_moment(connection) as tables:
            (snapshot,) = connection.execute("select pg_export_snapshot()").fetchone() or ("",)
            newest = max(read_applied(connection), default=None)
            measured = measure(connection, tables, progress)
            size, sha256 = _dump(client, snapshot, archive, progress)
        check_written(archive, sha256)
        _list(client, archive)
        document = {
            "v": VERSION,
            "database": connection.info.dbname,
            "server_version": connection.info.parameter_status("server_version"),
            "newest": newest,
            "bytes": size,
            "sha256": sha256,
            "tables": measured,
        }
        description.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return document


def restore(
    address: Address, file: Path, *, roles: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Make an empty database what a backup holds, in one transaction, and compare the two.

    Parameters
    ----------
    address : of the owner, direct; everything will be this role's
    file : the archive, with its description beside it
    roles : SQL that makes the cluster's roles
    progress : told how far it is

    Returns
    -------
    What each table holds: `{table, rows, hash}`.

    Raises
    ------
    ToolError : the backup is not whole, the database is not empty, no pg_restore fits or it failed,
        or a table is not what the backup says
    """
    document = _checked(file)
    with connect(address, purpose="restore") as connection:
        client = client_for(connection, address)
        contents = _list(client, file)
        with migration_lock(connection, wait=LOCK_WAIT, emit=silent):
            _refuse_contents(connection)
            run_roles(connection, roles)
            with _interruption_told(connection):
                _load(client, file, contents, connection.info.server_version, progress)
                protect_history(connection)
                with one_moment(connection) as tables:
                    measured = measure(connection, tables, progress)
    if findings := differences(document["tables"], measured):
        raise ToolError(*findings)
    return measured


def _dump(client: Client, snapshot: str, archive: Path, progress: Progress) -> tuple[int, str]:
    """Write pg_dump's archive of a snapshot as it comes; return its bytes and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    with (
        archive.open("wb") as file,
        client.run(
            "pg_dump",
            *client.connection,
            "--format=custom",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={LOCK_TIMEOUT}",
        ) as dump,
    ):
        assert dump.stdout
        for chunk in iter(partial(dump.stdout.read, CHUNK), b""):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress("MiB written", 1, None)
    return size, digest.hexdigest()


def _list(client: Client, archive: Path) -> bytes:
    """Return what is in an archive, in pg_restore's words."""
    try:
        with client.run("pg_restore", "--list", archive.absolute()) as listing:
            assert listing.stdout
            return listing.stdout.read()
    except ToolError as error:
        raise _bad(archive, f"is no archive: {error}") from None


def _load(
    client: Client, archive: Path, contents: bytes, server_version: int, progress: Progress
) -> None:
    """Run an archive's SQL in one transaction; whoever ends too early, nothing is committed.

    pg_restore begins and ends the transaction in the SQL that it writes, so psql commits only what
    it got to the end. pg_restore by itself could not leave out a setting that the server lacks.
    """
    wanted = [line for line in contents.splitlines(True) if not BOOKKEEPING_GRANTS.match(line)]
    # Rows come back, of setval() for instance: a pipe that nobody reads would fill up.
    options = ("--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1")
    with (
        client.run("psql", *client.connection, *options, stdin=subprocess.PIPE) as psql,
        suppress(BrokenPipeError),  # psql has ended, and says why
        client.run(
            "pg_restore",
            "--file=-",
            "--no-owner",
            "--single-transaction",
            "--exit-on-error",
            "--use-list=/dev/stdin",
            archive.absolute(),
            stdin=subprocess.PIPE,
        ) as script,
    ):
        assert psql.stdin
        assert script.stdin
        assert script.stdout
        with suppress(BrokenPipeError):  # pg_restore has ended, and says why
            script.stdin.write(b"".join(wanted))
            script.stdin.close()
        head = script.stdout.read(CHUNK)
        psql.stdin.write(
            head if server_version >= 170000 else head.replace(TRANSACTION_TIMEOUT, b"\n", 1)
        )
        for chunk in iter(partial(script.stdout.read, CHUNK), b""):
            psql.stdin.write(chunk)
            progress("MiB of SQL", 1, None)


def _checked(file: Path) -> dict[str, Any]:
    """Return a backup's description, when the file is what it says."""
    description = description_of(file)
    size = file.stat().st_size
    try:
        document: dict[str, Any] = json.loads(description.read_text("utf-8"))
        version, wanted, sha256 = document["v"], int(document["bytes"]), str(document["sha256"])
        for table in document["tables"]:
            str(table["table"]), int(table["rows"]), str(table["hash"])
    except FileNotFoundError:
        raise _bad(file, f"has no {description.name} beside it") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _bad(description, "is not what backup writes") from None
    if version != VERSION:
        raise _bad(description, f"is of version {version}, not {VERSION}")
    if size < wanted:
        raise _bad(file, f"is cut off: {size:,} of {wanted:,} bytes")
    if sha256_of(file) != sha256:
        raise _bad(file, f"was changed: its SHA-256 is not the one in {description.name}")
    return document


def _bad(path: Path, what: str) -> ToolError:
    fix = "take both files from where they were copied"
    return refuse("bad-backup", f"{path} {what}", fix=fix)


def _refuse_contents(connection: psycopg.Connection) -> None:
    if found := _found(connection):
        others = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        raise refuse(
            "not-empty",
            f"the database {connection.info.dbname} is not empty: there is {found[0]}{others}",
            fix="restore into an empty database (create database …)",
        )


def _found(connection: psycopg.Connection) -> list[str]:
    """Return what there is in a database that an empty one does not have."""
    objects = read_catalog(connection).values()
    whole = [str(each) for each in objects if each.parent is None and each.key != EMPTY]
    query = """
        select 'table ' || relname
        from pg_class
        where relnamespace = to_regnamespace('public') and relname = any (%s)
    """
    return whole + [name for (name,) in connection.execute(query, [list(BOOKKEEPING)])]


@contextmanager
def _interruption_told(connection: psycopg.Connection) -> Iterator[None]:
    """Say what an interruption has left, which is nothing before everything is committed."""
    try:
        yield
    except KeyboardInterrupt:
        if not _found(connection):
            raise
        message = "interrupted: what was restored is there, and was not compared with the backup"
        fix = "restore it again into an empty database"
        raise ToolError(Finding("interrupted", message, fix=fix), status=130) from None
