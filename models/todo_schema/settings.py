"""The application's database address: DATABASE_URL, from the environment or from .env."""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values, find_dotenv
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from todo_schema.errors import ConfigurationError

_LOCAL = ("localhost", "127.0.0.1", "::1")

# Debian's and Ubuntu's, Fedora's and its kin's, Alpine's and macOS's.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)

_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class Address:
    """Where the database is and who connects.

    Parameters
    ----------
    parameters : libpq's; `repr` hides them, for one is the password
    """

    parameters: dict[str, Any] = field(repr=False)

    @property
    def is_pooled(self) -> bool:
        """Whether the name says that it is Neon's pooler: `-pooler` in the first label."""
        return str(self.parameters["host"]).partition(".")[0].endswith("-pooler")

    @property
    def secret(self) -> bytes:
        """A key for cursors: the same wherever the application runs, and unknown to its clients."""
        parts = [str(self.parameters.get(name)) for name in ("dbname", "password")]
        return hashlib.sha256("\0".join(["todo_schema cursor", *parts]).encode()).digest()


def address(url: str | None = None) -> Address:
    """Return the address that a URL tells, with TLS where the host is not local.

    Parameters
    ----------
    url : `postgres://`, `postgresql://` or `postgresql+driver://`; DATABASE_URL by default, of the
        environment first and of the nearest `.env` at or above the working folder second

    Raises
    ------
    ConfigurationError : there is no URL, it is malformed, or it allows an unencrypted connection
    """
    if url is None:
        url = os.environ.get("DATABASE_URL") or dotenv_values(find_dotenv(usecwd=True)).get(
            "DATABASE_URL"
        )
    if not url:
        raise ConfigurationError("DATABASE_URL is not set; set it, or write it into .env")
    malformed = ConfigurationError(
        "DATABASE_URL is not a PostgreSQL address; write "
        "postgresql://<user>:<password>@<host>:5432/<database>, with the special characters of the "
        "password percent-encoded"
    )
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise malformed
    try:
        # libpq's own message is not passed on: it may quote the password.
        parameters = {"host": "localhost", **conninfo_to_dict(f"postgresql://{rest}")}
        port = int(parameters.get("port") or 5432)
    except (ProgrammingError, ValueError):
        raise malformed from None
    host = str(parameters.get("hostaddr") or parameters["host"])
    # An unescaped @ or / in a password ends up in the host or the database's name. A service or a
    # list of hosts would connect elsewhere than `host` says.
    odd = "@" in f"{host}{parameters.get('dbname')}" or "," in host or "service" in parameters
    if odd or not 0 < port < 65536 or parameters.get("sslmode", "prefer") not in _TLS_MODES:
        raise malformed
    if host in _LOCAL or host.startswith("/"):
        return Address(parameters)
    mode = parameters.setdefault("sslmode", "verify-full")
    if mode in ("disable", "allow", "prefer"):
        raise ConfigurationError(
            f"DATABASE_URL: sslmode={mode} would allow an unencrypted connection; "
            "use sslmode=verify-full, or leave it out"
        )
    if mode == "verify-full" and parameters.get("sslrootcert", "system") == "system":
        parameters["sslrootcert"] = _system_roots()
    return Address(parameters)


def _system_roots() -> str:
    """Return the file with the system's roots: psycopg's wheels look where no system has them."""
    for place in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if place and Path(place).is_file():
            return place
    return "system"
