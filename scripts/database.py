"""Connections of the tools: direct, over TLS where the host is not local, with clear refusals."""

from __future__ import annotations

import logging
import re
import ssl
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from scripts.address import Address
from scripts.errors import ToolError, refuse

# A lost connection is an error that the command tells; psycopg would print a warning beside it.
logging.getLogger("psycopg").setLevel(logging.ERROR)

CONNECT_TIMEOUT = 10
"""Seconds for one attempt to connect."""

WAKE = 30.0
"""Seconds in which a host that is not local may wake up: computes at Neon sleep when unused."""

# Debian's and Ubuntu's, Fedora's and its kin's, Alpine's and macOS's.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)

LOCK_TIMEOUT = "5s"
"""How long a statement waits for a lock. While it waits, everything behind it waits too."""


def connect(
    address: Address,
    *,
    purpose: str,
    read_only: bool = False,
    direct: bool = True,
    wake: float | None = None,
) -> psycopg.Connection:
    """Connect in autocommit mode, as the tools need it.

    The session sees every row or fails (`row_security = off`), notices within a second that its
    client is gone, and its `application_name` tells what it is for.

    Parameters
    ----------
    address : where to connect and as whom
    purpose : the command's name, for `application_name`
    read_only : refuse to write, on the server's side
    direct : refuse a connection pooler
    wake : seconds in which to try again where there is no answer; by default WAKE, and none for a
        local host

    Raises
    ------
    ToolError : TLS is missing, the host is a pooler, or the server cannot be reached, refuses the
        role, or has no such database; the password is never part of a message
    """
    if direct and address.is_pooled:
        raise _pooled(address)
    parameters = {"connect_timeout": CONNECT_TIMEOUT, **with_tls(address).parameters}
    parameters["application_name"] = f"schema-{purpose}"
    wake = (0 if address.is_local else WAKE) if wake is None else wake
    connection = _open(address, parameters, time.monotonic() + wake)
    try:
        set_session(connection, read_only=read_only)
        # A pooler answers the start-up packet itself, with a process number of its own. So does
        # Neon's proxy, also for direct addresses; there the name tells.
        (pid,) = connection.execute("select pg_backend_pid()").fetchone() or (0,)
        if direct and pid != connection.info.backend_pid and not address.is_neon:
            raise _pooled(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(address: Address, parameters: dict[str, Any], end: float) -> psycopg.Connection:
    """Connect, again and again until `end` where nobody answers."""
    while True:
        try:
            return psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            refusal = _unreachable(address, error)
            if refusal.findings[0].code != "unreachable" or time.monotonic() >= end:
                raise refusal from None
        time.sleep(0.5)


def set_session(connection: psycopg.Connection, *, read_only: bool = False) -> None:
    """Set what every session of the tools relies on, in one round trip."""
    settings = {
        "row_security": "off",
        "lock_timeout": LOCK_TIMEOUT,
        "search_path": "public",
        "timezone": "UTC",
        "client_min_messages": "warning",
        "client_connection_check_interval": "500ms",
    }
    if read_only:  # a database that its owner froze stays read-only otherwise, too
        settings["default_transaction_read_only"] = "on"
    connection.execute(
        sql.SQL("; ").join(
            sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in settings.items()
        )
    )


def with_tls(address: Address) -> Address:
    """Return the address as it is connected to: over verified TLS where the host is not local.

    Raises
    ------
    ToolError : its sslmode would allow a connection without TLS (code `tls-required`, status 2)
    """
    if address.is_local:
        return address
    mode = address.parameters.get("sslmode", "verify-full")
    if mode in ("disable", "allow", "prefer"):
        raise refuse(
            "tls-required",
            f"{address.source}: sslmode={mode} would allow an unencrypted connection to "
            f"{address.host}",
            fix="use sslmode=verify-full (or leave sslmode out)",
            status=2,
        )
    if mode == "verify-full" and address.parameters.get("sslrootcert", "system") == "system":
        address = address.with_(sslrootcert=_system_roots())
    return address.with_(sslmode=mode)


def _system_roots() -> str:
    """Return the file with the system's roots: psycopg's wheels look where no system has them."""
    for place in (ssl.get_default_verify_paths().cafile, *BUNDLES):
        if place and Path(place).is_file():
            return place
    return "system"


def _pooled(address: Address) -> ToolError:
    return refuse(
        "pooled-address",
        f"{address.host} is a connection pooler: two clients of a transaction pooler both get "
        "the same session lock",
        fix="set MIGRATION_DATABASE_URL to the direct address (at Neon: without -pooler)",
    )


# libpq tells what went wrong at connecting only in words: pattern, code, what happened, way out.
CONNECT_FAILURES = (
    (
        r"password authentication failed",
        "authentication-failed",
        "the server refuses the password for {}",
        "check user and password",
    ),
    (
        r"no password supplied",
        "authentication-failed",
        "the server wants a password for {}",
        "add it to the address, or use a .pgpass file",
    ),
    (
        r"no pg_hba.conf entry|role .* (does not exist|is not permitted)",
        "authentication-failed",
        "the server does not let this role in: {}",
        "check the role, and that it may log in",
    ),
    (
        r"database .* does not exist",
        "database-missing",
        "there is no such database: {}",
        "check the database's name",
    ),
    (
        r"server does not support SSL",
        "tls-required",
        "the server offers no TLS: {}",
        "use a server with TLS",
    ),
    (
        r"certificate",
        "tls-failed",
        "the server's certificate is not accepted: {}",
        "check host name and sslrootcert",
    ),
    (
        r"channel binding",
        "tls-failed",
        "somebody may stand between this machine and the server, or it is a pooler: {}",
        "check host and port; channel_binding=require wants the server's own TLS and SCRAM",
    ),
)


def _unreachable(address: Address, error: psycopg.OperationalError) -> ToolError:
    text = str(error)
    where = f"{address.url} ({address.source})"
    for pattern, code, message, fix in CONNECT_FAILURES:
        if re.search(pattern, text):
            return refuse(code, message.format(where), fix=fix)
    reason = text.partition("\n")[0].rpartition(": ")[2]
    return refuse(
        "unreachable",
        f"no connection to {where}: {reason}",
        fix="check host and port, and that the server runs (local: make up)",
    )
