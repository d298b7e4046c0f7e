"""A real PgBouncer in front of a server, in transaction mode."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.address import Address
from tests.support.ports import free_port, wait_for

CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = {address}
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def pgbouncer(
    address: Address, listen: str = "127.0.0.1", **settings: str | int
) -> Iterator[Address]:
    """Give the address of the same database through PgBouncer; skip where it is not installed.

    Parameters
    ----------
    address : the server's; the user, and a password if there is one, are everybody's
    listen : where clients connect
    settings : PgBouncer's, beside those that it always has here
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port = free_port(listen)
    # auth_type any lets everybody in as the user that the database line forces.
    text = CONFIGURATION.format(
        host=address.host, port=address.port, address=listen, listen=port, folder=folder
    )
    login = {name: address.parameters.get(name) for name in ("user", "password")}
    forced = " ".join(f"{name}='{value}'" for name, value in login.items() if value)
    text = text.replace("* = ", f"* = {forced} ")
    text += "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "pgbouncer.ini").write_text(text)
    account = {}
    if os.geteuid() == 0:  # PgBouncer refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        [program, "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, **account
    )
    try:
        wait_for(port, process, listen)
        yield address.with_(host=listen, port=port)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)
