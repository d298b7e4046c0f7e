"""Scratch databases of the local server: empty, and dropped after use."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import psycopg

from scripts.address import Address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.server import LocalServer, local_server
from scripts.settings import project


@contextmanager
def scratch_database(
    server: LocalServer | None = None, prefix: str = "scratch"
) -> Iterator[Address]:
    """Give an empty database of the local owner, and drop it afterwards, whatever happens.

    What a killed process left behind under the same prefix is dropped first.

    Parameters
    ----------
    server : started where it does not run; by default the local server
    prefix : the database's name before `_<pid>_<random>`

    Raises
    ------
    ToolError : the server cannot be started
    """
    server = server or local_server()
    server.start()
    _drop_leftovers(server, prefix)
    name = f"{prefix}_{os.getpid()}_{secrets.token_hex(4)}"
    try:
        yield server.create_database(name, project().local_owner)
    finally:
        # An error here would hide the caller's own; what stays is a leftover for the next use.
        with suppress(ToolError, psycopg.Error):
            server.drop_database(name)


def _drop_leftovers(server: LocalServer, prefix: str) -> None:
    """Drop databases whose name carries the number of a process that is gone."""
    with connect(server.superuser, purpose="scratch") as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database")]
    for name in names:
        match = re.fullmatch(rf"{re.escape(prefix)}_(\d+)_[0-9a-f]{{8}}", name)
        if match and not psutil.pid_exists(int(match[1])):
            server.drop_database(name)
