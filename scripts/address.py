"""Database addresses: parsed once, printed without their password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from scripts.errors import ToolError, refuse

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Address:
    """Where a database is and who connects.

    Parameters
    ----------
    parameters : libpq's connection parameters; `repr` hides them, for one is the password
    source : where the address came from, for messages
    """

    parameters: dict[str, Any] = field(repr=False)
    source: str

    @property
    def host(self) -> str:
        """Where libpq really connects: `hostaddr` before `host`; a folder for a Unix socket."""
        return str(self.parameters.get("hostaddr") or self.parameters["host"])

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.parameters.get("port") or 5432)

    @property
    def database(self) -> str:
        """The database's name."""
        return str(self.parameters.get("dbname") or self.parameters.get("user") or "")

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, by loopback or by a Unix socket."""
        return self.host in LOCAL_HOSTS or self.host.startswith("/")

    @property
    def is_pooled(self) -> bool:
        """Whether the name says that it is Neon's pooler: `-pooler` in the first label."""
        return self._name.partition(".")[0].endswith("-pooler")

    @property
    def is_neon(self) -> bool:
        """Whether the name says that it is at Neon."""
        return self._name.endswith(".neon.tech")

    @property
    def _name(self) -> str:
        """The host's name, which TLS and Neon go by also where `hostaddr` tells the way."""
        return str(self.parameters["host"]).lower().removesuffix(".")

    @property
    def url(self) -> str:
        """The address as a URL, without its password."""
        return self._url(_quoted(self.parameters.get("user") or ""))

    @property
    def secret_url(self) -> str:
        """The address as a URL with everything, the password too: never printed."""
        apart = ("host", "hostaddr", "port", "user", "password", "dbname")
        names = ("user", "password")
        login = ":".join(
            _quoted(self.parameters[name]) for name in names if name in self.parameters
        )
        rest = [f"{n}={_quoted(v)}" for n, v in self.parameters.items() if n not in apart]
        return self._url(login) + ("?" + "&".join(rest) if rest else "")

    def _url(self, login: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else _quoted(self.host)
        where = f"{host}:{self.port}/{_quoted(self.database)}"
        return f"postgresql://{login + '@' if login else ''}{where}"

    def with_(self, **parameters: Any) -> Address:
        """Return the address with some of its parameters changed."""
        return Address({**self.parameters, **parameters}, self.source)


def parse_address(value: str, source: str) -> Address:
    """Parse a database URL; libpq's own messages are not passed on, for they may quote a password.

    Parameters
    ----------
    value : `postgres://`, `postgresql://` or `postgresql+driver://`, as libpq understands it
    source : the variable it came from, for messages

    Raises
    ------
    ToolError : it is not such a URL (status 2)
    """
    malformed = _malformed(source)
    scheme, separator, rest = value.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise malformed
    try:
        parameters = {"host": "localhost", **conninfo_to_dict(f"postgresql://{rest}")}
        address = Address(parameters, source)
        valid_port = 0 < address.port < 65536
    except (ProgrammingError, ValueError):
        raise malformed from None
    # An unescaped @ or / in a password ends up in the host or the database's name. A service or a
    # list of hosts would connect elsewhere than `host` says.
    odd = "@" in address.host + address.database or "," in address.host or "service" in parameters
    if odd or not valid_port or not address.database:
        raise malformed
    return address


def _quoted(value: object) -> str:
    return quote(str(value), safe="")


def _malformed(source: str) -> ToolError:
    return refuse(
        "malformed-url",
        f"{source} is not a PostgreSQL address",
        fix="write postgresql://<user>:<password>@<host>:5432/<database>, with the special "
        "characters of the password percent-encoded",
        status=2,
    )
