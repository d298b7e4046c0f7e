"""The databases behind the branches of a stand-in for Neon: copied, renamed, asleep at first."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import ExitStack, suppress

from psycopg import errors, sql

from scripts.database import connect
from scripts.server import LocalServer
from tests.support.proxy import Proxy


class Databases:
    """Databases of a server that are dropped in the end.

    Parameters
    ----------
    server : where they are; its `max_connections` bounds how many clients may come at once
    owner : the role that owns them
    """

    def __init__(self, server: LocalServer, owner: str) -> None:
        self._server, self._owner = server, owner
        self._made: set[str] = set()
        self._closing = ExitStack()

    def close(self) -> None:
        self._closing.close()
        for name in self._made:
            self._server.drop_database(name)

    def copy(self, source: str, target: str, *, open: bool = False) -> None:
        """Make a database as another is, whose sessions are cut; nobody gets in before `open`."""
        self._made.add(target)
        statement = "create database {1} template {0} allow_connections {2} owner {3}"
        self._alone(source, statement, target, "true" if open else "false", self._owner)

    def rename(self, old: str, new: str) -> None:
        self._made.add(new)
        self._alone(old, "alter database {0} rename to {1}", new)

    def open(self, name: str) -> None:
        self._alone(name, "alter database {0} allow_connections true")

    def drop(self, name: str) -> None:
        self._server.drop_database(name)

    def snapshot(self, name: str) -> tuple[str, str]:
        """Copy a database; return the copy's name and the LSN at which it was made."""
        copy = f"neon_{secrets.token_hex(6)}"
        self.copy(name, copy)
        return copy, self.lsn()

    def lsn(self) -> str:
        with connect(self._server.superuser, purpose="neon") as connection:
            lsn = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert lsn
        return str(lsn[0])

    def sleeping_port(self) -> int:
        """Return a port before the server where the first connection only wakes it, and is cut."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        behind = Proxy(self._server.superuser, port)

        def serve() -> None:
            with suppress(OSError):
                listener.accept()[0].close()
                behind.serve(listener)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        self._closing.callback(thread.join, 5)
        self._closing.callback(behind.drop)
        self._closing.callback(listener.close)
        self._closing.callback(listener.shutdown, socket.SHUT_RDWR)
        return port

    def _alone(self, name: str, statement: str, *names: str) -> None:
        """Run a statement that PostgreSQL refuses while somebody is connected to a database."""
        end = time.monotonic() + 20
        text = sql.SQL(statement).format(*map(sql.Identifier, (name, *names)))
        while True:
            with connect(self._server.superuser, purpose="neon") as connection:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
                    [name],
                )
                try:
                    connection.execute(text)
                    return
                except (errors.ObjectInUse, errors.LockNotAvailable):  # somebody was faster
                    if time.monotonic() > end:
                        raise
