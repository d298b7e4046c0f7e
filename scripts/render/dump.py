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
CONSTRAINT_NAME = re.compile(rf"CONSTRAINT {IDENTIFIER} (?=NOT NULL)")
ROLE = re.compile(IDENTIFIER)

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
        if not _is_setting(raw.stmt)
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


def _is_setting(tree: Any) -> bool:
    """Whether it is SET, or the only SELECT of a dump without data: it empties search_path."""
    return isinstance(tree, ast.VariableSetStmt | ast.SelectStmt)


def _neutral(text: str, tree: Any, start: int, address: Address) -> str:
    """Drop the names of NOT NULL constraints, which only PostgreSQL 18 keeps, and the owner's."""
    names = _Names(str(address.parameters.get("user")))
    names(tree)
    for at in sorted(names.not_null, reverse=True):
        text = text[: at - start] + CONSTRAINT_NAME.sub("", text[at - start :], count=1)
    for at in sorted(names.owner, reverse=True):
        text = text[: at - start] + ROLE.sub("CURRENT_USER", text[at - start :], count=1)
    return text


class _Names(Visitor):
    """The places of names in a statement: of NOT NULL constraints, and of a role."""

    def __init__(self, owner: str) -> None:
        self._role = owner
        self.not_null: list[int] = []
        self.owner: list[int] = []

    def visit_Constraint(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        if node.contype == ConstrType.CONSTR_NOTNULL and node.conname:
            self.not_null.append(node.location)

    def visit_RoleSpec(self, ancestors: Any, node: Any) -> None:  # noqa: N802
        if node.rolename == self._role:
            self.owner.append(node.location)
