"""The statements of a migration file: split, and refused where they would break a promise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pglast
from pglast import ast
from pglast.parser import ParseError

from scripts.errors import ToolError
from scripts.runner.files import Migration, Script

ALONE = (ast.VacuumStmt, ast.ReindexStmt)
"""What PostgreSQL refuses in a transaction and may be repeated, beside concurrent indexes."""


@dataclass(frozen=True)
class Statement:
    """One statement of a file: its text, the 0-based offset of its text, and its parse tree."""

    text: str
    offset: int
    tree: Any


@cache
def split(script: Script) -> list[Statement]:
    """Return the statements in order, split by PostgreSQL's own parser.

    Raises
    ------
    ToolError : a syntax error (code `sql`), or nothing but comments (code `bad-file`)
    """
    try:
        trees = pglast.parse_sql(script.text)
        places = pglast.split(script.text, only_slices=True)
    except ParseError as error:
        message, offset = (*error.args, 0)[:2]
        raise ToolError(script.finding("sql", message, offset, "mend the file")) from None
    if not trees:
        raise ToolError(script.finding("bad-file", "holds no statement", fix="write it"))
    return [
        Statement(script.text[place], place.start, tree.stmt)
        for place, tree in zip(places, trees, strict=True)
    ]


def check_statements(migration: Migration, script: Script) -> None:
    """Refuse what would break the runner's promises, before anything runs.

    Raises
    ------
    ToolError : a syntax error, transaction control, or a file that is not transactional with more
        than one statement or with one that could not be repeated after a crash
    """
    statements = split(script)
    for statement in statements:
        if problem := _problem(statement.tree):
            raise ToolError(script.finding("bad-file", problem[0], statement.offset, problem[1]))
    if migration.transactional:
        return
    if len(statements) > 1:
        raise ToolError(
            script.finding(
                "bad-file",
                "a second statement in a file that is not transactional",
                statements[1].offset,
                "one statement to a file: what a failure leaves behind is then known",
            )
        )
    index = concurrent_index(statements[0])
    if index and not index.repeatable:
        word = "if not exists" if index.builds else "if exists"
        message, fix = f"could not be repeated after a crash: no `{word}`", f"write `{word}`"
    elif not index and not isinstance(statements[0].tree, ALONE):
        message, fix = "runs in a transaction as well", "remove `-- transactional: false`"
    else:
        return
    raise ToolError(script.finding("bad-file", message, statements[0].offset, fix))


def _problem(tree: Any) -> tuple[str, str] | None:
    """Return what is wrong with a statement of any migration, and the way out."""
    match tree:
        case ast.TransactionStmt():
            return (
                "transaction control in a migration",
                "remove it: the runner runs each file in one transaction",
            )
        case ast.CopyStmt(filename=None):
            return "a migration has no standard input or output", "write insert statements"
        case ast.VariableSetStmt(name="row_security"):
            return (
                "row_security is the runner's: rows that are hidden would be left out silently",
                "remove it, and run the migration as a role with BYPASSRLS",
            )
    return None


@dataclass(frozen=True)
class ConcurrentIndex:
    """What CREATE or DROP INDEX CONCURRENTLY is about; `name` is quoted as SQL wants it."""

    name: str
    builds: bool
    repeatable: bool


def concurrent_index(statement: Statement) -> ConcurrentIndex | None:
    """Return the index that a statement builds or drops concurrently; None for any other."""
    tree = statement.tree
    if isinstance(tree, ast.IndexStmt) and tree.concurrent and tree.idxname:
        schema = tree.relation.schemaname if tree.relation else None
        parts = [part for part in (schema, tree.idxname) if part]
        return ConcurrentIndex(_quoted(parts), builds=True, repeatable=bool(tree.if_not_exists))
    if isinstance(tree, ast.DropStmt) and tree.concurrent and tree.objects:
        parts = [part.sval for part in tree.objects[0]]
        return ConcurrentIndex(_quoted(parts), builds=False, repeatable=bool(tree.missing_ok))
    return None


def _quoted(parts: list[str]) -> str:
    return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)
