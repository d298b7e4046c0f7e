"""pg_dump's statements of a local database, free of what varies between runs and servers."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

import pglast
from pglast import ast
from pglast.enums import ConstrType
from pglast.visitors import Visitor
from psycopg.conninfo import make_conninfo

from scripts.address import Address
from scripts.binaries import embedded_binaries
from scripts.catalog.model import BOOKKEEPING
from scripts.errors import refuse

# pg_dump wraps its output in \restrict KEY and \unrestrict KEY, with a random key by default.
KEY = "snapshot"
VERSION = re.compile(r"^-- Dumped from database version (\d+)", re.MULTILINE)
IDENTIFIER = r'("([^"]|"")+"|\w+)'

# What ALL means to a server before 17, which has no MAINTAIN.
ALL_BEFORE_17 = " SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON TABLE "


@dataclass(frozen=True)
class Statement:
    """One statement: its text without the semicolon, and its parse tree."""

    text: str
    tree: Any


def dump(address: Address) -> list[Statement]:
    """Return the statements that make a database's schema, in pg_dump's order.

    Left out are the tables of BOOKKEEPING, owners, tablespaces, comments, and the settings of
    pg_dump's session. Servers 16 to 18 give the same text; only columns that are inherited and
    NOT NULL are told differently.

    Parameters
    ----------
    address : of the owner of all that is there; where a privilege is the owner's, the text says
        CURRENT_USER

    Raises
    ------
    ToolError : pg_dump fails (code `local-server`)
    """
    output = _run(address)
    version = VERSION.search(output)
    assert version
    text = output.partition(f"\n\\restrict {KEY}\n")[2].rpartition(f"\n\\unrestrict {KEY}\n")[0]
    if int(version[1]) < 17:
        text = text.replace(f"\nGRANT{ALL_BEFORE_17}", "\nGRANT ALL ON TABLE ")
        text = text.replace(f"\nREVOKE{ALL_BEFORE_17}", "\nREVOKE ALL ON TABLE ")
    places = pglast.split(text, only_slices=True)
    return [
        Statement(_neutral(text[place], raw.stmt, place.start, address), raw.stmt)
        for raw, place in zip(pglast.parse_sql(text), places, strict=True)
        # SET, and the only SELECT of a dump without data, which empties search_path.
        if not isinstance(raw.stmt, ast.VariableSetStmt | ast.SelectStmt)
    ]


def _run(address: Address) -> str:
    parameters = dict(address.parameters)
    password = parameters.pop("password", None)
    result = subprocess.run(
        [
            embedded_binaries() / "pg_dump",
            f"--dbname={make_conninfo(**parameters)}",
            "--schema-only",
            "--no-owner",
            "--no-tablespaces",
            "--no-table-access-method",
            "--encoding=UTF8",
            f"--restrict-key={KEY}",
            *(f"--exclude-table=public.{table}" for table in sorted(BOOKKEEPING)),
        ],
        # pg_dump settles how dates and numbers are written, but not in which time zone.
        env={**os.environ, "PGTZ": "UTC", **({"PGPASSWORD": password} if password else {})},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if result.returncode:
        raise refuse("local-server", f"pg_dump failed: {result.stderr.strip()}")
    return result.stdout


def _neutral(text: str, tree: Any, start: int, address: Address) -> str:
    """Drop the names of NOT NULL constraints, which only PostgreSQL 18 keeps, and the owner's."""
    names = _Names(address.parameters.get("user"))
    names(tree)
    for place, pattern, instead in sorted(names.found, reverse=True):
        at = place - start
        text = text[:at] + re.sub(pattern, instead, text[at:], count=1)
    return text


class _Names(Visitor):
    """The places of names in a statement, with the pattern to replace there and the new text."""

    def __init__(self, owner: str | None) -> None:
        self._owner = owner
        self.found: list[tuple[int, str, str]] = []

    def visit_Constraint(self, ancestors: Any, node: Any) -> None:  # noqa: N802 (pglast's name)
        if node.contype == ConstrType.CONSTR_NOTNULL and node.conname:
            self.found.append((node.location, rf"CONSTRAINT {IDENTIFIER} (?=NOT NULL)", ""))

    def visit_RoleSpec(self, ancestors: Any, node: Any) -> None:  # noqa: N802 (pglast's name)
        if node.rolename and node.rolename == self._owner:
            self.found.append((node.location, IDENTIFIER, "CURRENT_USER"))
