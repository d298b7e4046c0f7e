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
def scratch_database(server: LocalServer | None = None) -> Iterator[Address]:
    """Give an empty database of the local owner, and drop it afterwards, whatever happens.

    What a killed process left behind is dropped first. The server, by default the local one, is
    started where it does not run; ToolError where that fails.
    """
    server = server or local_server()
    server.start()
    with connect(server.superuser, purpose="scratch") as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database")]
    for name in names:
        match = re.fullmatch(r"scratch_(\d+)_[0-9a-f]{8}", name)
        if match and not psutil.pid_exists(int(match[1])):
            server.drop_database(name)
    name = f"scratch_{os.getpid()}_{secrets.token_hex(4)}"
    try:
        yield server.create_database(name, project().local_owner)
    finally:
        # An error here would hide the caller's own; what stays is a leftover for the next use.
        with suppress(ToolError, psycopg.Error):
            server.drop_database(name)
