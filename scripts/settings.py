"""What the tools are told: the project's table in pyproject.toml, addresses in the environment."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from scripts.address import Address, parse_address
from scripts.errors import refuse

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Project:
    """The seam between tools and project: `[tool.schema]` of pyproject.toml; paths are absolute.

    Parameters
    ----------
    migrations, roles : folder of migrations, and roles.sql
    snapshot, queries : generated, the whole schema and the statements for reviewers
    statistics : sql/statistics.json, what production's data looks like
    mirrors : where the mirrors' SQLAlchemy metadata is, `module:attribute`
    corpus : where the applications' statements are: `module:function`, or files of SQL
    tenant_column : the column that says whose row it is
    context_function : the SQL function that sets the tenant for a transaction
    application_role : the role that applications log in as
    local_database, local_owner : names on the local server
    """

    migrations: Path
    snapshot: Path
    queries: Path
    roles: Path
    statistics: Path
    mirrors: str
    corpus: list[str]
    tenant_column: str
    context_function: str
    application_role: str
    local_database: str
    local_owner: str

    @property
    def root(self) -> Path:
        """The folder that holds pyproject.toml."""
        return ROOT

    @property
    def local_folder(self) -> Path:
        """The ignored folder of the local server; SCHEMA_LOCAL_DIR moves it."""
        return Path(environment("SCHEMA_LOCAL_DIR") or ROOT / ".local")

    def relative(self, path: Path) -> str:
        """Return a path as messages show it: relative to the root where it is below it."""
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


PATHS = ("migrations", "snapshot", "queries", "roles", "statistics")


@cache
def project() -> Project:
    """Read `[tool.schema]`.

    Raises
    ------
    ToolError : the file is missing or malformed, or a key is missing or unknown (status 2)
    """
    path = ROOT / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("schema", {})
    except (OSError, ValueError) as error:
        raise refuse("settings", f"{path.name} cannot be read: {error}", status=2) from None
    known = {field.name for field in fields(Project)}
    for key in sorted(known | set(table)):
        kind, form = (list, "no list") if key == "corpus" else (str, "no string")
        if key in known and isinstance(table.get(key), kind):
            continue
        word = "unknown" if key not in known else form if key in table else "missing"
        raise refuse("settings", f"[tool.schema] of pyproject.toml: {key} is {word}", status=2)
    paths = {key: ROOT / table.pop(key) for key in PATHS}
    return Project(**paths, **table)


def environment(name: str) -> str | None:
    """Return a variable of the environment, or of `.env` beside pyproject.toml; empty is unset."""
    return (os.environ[name] if name in os.environ else _dotenv().get(name)) or None


@cache
def _dotenv() -> dict[str, str | None]:
    """Read `.env`; a line that dotenv would skip may hold the address that somebody counts on."""
    path = ROOT / ".env"
    try:
        text = path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise refuse("settings", ".env cannot be read as UTF-8", status=2) from None
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            message = f".env:{binding.original.line}: is not NAME=value"
            raise refuse("settings", message, fix="mend the line, or quote its value", status=2)
    return dotenv_values(stream=StringIO(text))


def configured_address() -> Address | None:
    """Return the owner's address that the environment names, or None where it names none.

    MIGRATION_DATABASE_URL comes first; DATABASE_URL serves only where it is direct.

    Raises
    ------
    ToolError : the address is malformed, or only a pooled one is given (status 2)
    """
    if value := environment("MIGRATION_DATABASE_URL"):
        return parse_address(value, "MIGRATION_DATABASE_URL")
    if value := environment("DATABASE_URL"):
        address = parse_address(value, "DATABASE_URL")
        if address.is_pooled:
            raise refuse(
                "pooled-address",
                "DATABASE_URL is a pooled address, which cannot hold the migration lock",
                fix="set MIGRATION_DATABASE_URL to the owner's direct address",
                status=2,
            )
        return address
    return None
