"""PostgreSQL's client programs: which of the installed ones fit a server, and running one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import psycopg
from psycopg.conninfo import make_conninfo

from scripts.address import Address
from scripts.binaries import embedded_binaries
from scripts.database import CONNECT_TIMEOUT, with_tls
from scripts.errors import refuse

PROGRAMS = ("pg_dump", "pg_restore", "psql")
DEBIAN = Path("/usr/lib/postgresql")
WANT_TLS = ("require", "verify-ca", "verify-full")

# libpq looks at sslmode before it looks for the socket, so nobody is asked anything.
NOWHERE = "host=/nonexistent sslmode=require"
NO_TLS = b"SSL support is not compiled in"

LONGEST = 64 * 1024
"""How much of what a program says on stderr is read, in bytes."""


@dataclass(frozen=True)
class Client:
    """The programs of one folder, and how they connect.

    Parameters
    ----------
    folder : where the programs are
    connection : the arguments that name the database, without a secret
    environment : what the programs get, the password among it
    """

    folder: Path
    connection: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)

    @contextmanager
    def run(
        self, program: str, *arguments: str | Path, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program while the block uses its output; it ends with the block, whatever happens.

        Raises
        ------
        ToolError : it failed (code `database`), with its own words
        """
        with (
            TemporaryFile() as said,
            subprocess.Popen(
                [self.folder / program, *arguments],
                env=self.environment,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=said,
            ) as process,
        ):
            try:
                yield process
                if process.stdin:
                    with suppress(BrokenPipeError):  # it has ended, and says why
                        process.stdin.close()
                status = process.wait()
            except BaseException:
                process.kill()
                raise
            if status:
                said.seek(0)
                raise _failure(program, status, said.read(LONGEST).decode(errors="replace"))


def client_for(connection: psycopg.Connection, address: Address) -> Client:
    """Return the newest client that fits the server of an open connection.

    Parameters
    ----------
    connection : from `database.connect`; tells the server's version, and the password that it
        took, also where that came from a password file
    address : what it was opened with

    Raises
    ------
    ToolError : there is none (code `no-pg-dump`)
    """
    # libpq itself says which parameters must not be shown.
    secret = {
        option.keyword.decode() for option in connection.pgconn.info if b"*" in option.dispchar
    }
    shown = {k: v for k, v in with_tls(address).parameters.items() if k not in secret}
    wants_tls = connection.info.get_parameters().get("sslmode") in WANT_TLS
    folder = choose(
        installed(),
        server=connection.info.server_version // 10000,
        tls_for=address.host if wants_tls else None,
    )
    password = connection.info.password
    environment = {"LC_ALL": "C", "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT)}
    return Client(
        folder,
        (f"--dbname={make_conninfo(**shown)}", "--no-password"),
        {**os.environ, **environment, **({"PGPASSWORD": password} if password else {})},
    )


def installed() -> list[Path]:
    """Return the folders with PostgreSQL's programs: the tools' own, PATH's, and Debian's."""
    on_path = Path(shutil.which("pg_dump") or "").resolve()
    folders = [embedded_binaries(), on_path.parent, *sorted(DEBIAN.glob("*/bin"))]
    # Debian's /usr/bin/pg_dump is a script that calls one of the last.
    return [
        folder
        for folder in dict.fromkeys(folders)
        if all((folder / program).is_file() for program in PROGRAMS)
        and (folder / "pg_dump").resolve().name == "pg_dump"
    ]


def choose(folders: Iterable[Path], *, server: int, tls_for: str | None) -> Path:
    """Return the folder with the newest programs that are no older than the server.

    Parameters
    ----------
    folders : in which the programs are; of the same version the first is taken
    server : the server's major version
    tls_for : the host that is reached over TLS; None where no TLS is needed

    Raises
    ------
    ToolError : none fits (code `no-pg-dump`); the message says why, of each
    """
    versions = {folder: _version(folder / "pg_dump") for folder in folders}
    faults = []
    for folder, version in sorted(versions.items(), key=lambda each: -each[1]):
        if version < server:
            fault = f"is older than the server, {server}"
        elif tls_for and not _has_tls(folder / "pg_dump"):
            fault = f"is built without TLS, which {tls_for} wants"
        else:
            return folder
        faults.append(f"{folder / 'pg_dump'} {version} {fault}")
    raise refuse(
        "no-pg-dump",
        "; ".join(faults) or "there is no pg_dump",
        fix=f"install PostgreSQL's client programs of version {server} or newer "
        f"(Debian: postgresql-client-{server})",
    )


def _version(program: Path) -> int:
    """The major version; 0 where the program does not run."""
    match = re.search(rb"\(PostgreSQL\) (\d+)", _ask(program, "--version"))
    return int(match[1]) if match else 0


def _has_tls(program: Path) -> bool:
    return NO_TLS not in _ask(program, "--no-password", f"--dbname={NOWHERE}")


def _ask(program: Path, *arguments: str) -> bytes:
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            [program, *arguments],
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=False,
        ).stdout
    return b""


def _failure(program: str, status: int, said: str) -> Exception:
    """Return the error with the line that says what went wrong."""
    lines = [line for line in said.splitlines() if re.search("error:|fatal:", line, re.IGNORECASE)]
    words = re.sub(r"^.*?(error|fatal):\s*", "", (lines or [f"status {status}"])[0], flags=re.I)
    if missing := re.search(r'role "(.+)" does not exist', words):
        fix = f'create role "{missing[1]}" on this server, and run it again'
    else:
        fix = "as the message says"
    return refuse("database", f"{program} failed: {words}", fix=fix)
