"""Which files touch rows that row security would hide from the role that runs them."""

from __future__ import annotations

import psycopg
from pglast import ast, enums
from pglast.visitors import Visitor

from scripts.errors import Finding
from scripts.runner.files import Script
from scripts.runner.statements import split

PROTECTED = """
select relnamespace::regnamespace::text, relname from pg_class where relforcerowsecurity
"""

READS_OR_WRITES_ROWS = (
    ast.InsertStmt,
    ast.UpdateStmt,
    ast.DeleteStmt,
    ast.MergeStmt,
    ast.SelectStmt,
    ast.CopyStmt,
    ast.CreateTableAsStmt,
)


def hidden_rows(connection: psycopg.Connection, scripts: list[Script]) -> list[Finding]:
    """Return a finding for each file that names rows under forced row security.

    Row security is off in the runner's session, so such a statement would fail anyway, also inside
    a function where it cannot be seen here; this says so before anything has started.

    Parameters
    ----------
    connection : of the role that would run them
    scripts : the files in order; row security that one of them switches on counts for the next
    """
    row = connection.execute(
        "select rolsuper or rolbypassrls from pg_roles where rolname = current_user"
    ).fetchone()
    if row and row[0]:
        return []
    protected = set(connection.execute(PROTECTED).fetchall())
    findings = []
    for script in scripts:
        for statement in split(script):
            tree = statement.tree
            if isinstance(tree, ast.AlterTableStmt):
                protected |= _tables(tree) if _forces_row_security(tree) else set()
            if isinstance(tree, READS_OR_WRITES_ROWS) and (hidden := _tables(tree) & protected):
                findings.append(
                    script.finding(
                        "needs-bypassrls",
                        f"touches rows of {_names(hidden)}, which row security hides "
                        f"from {connection.info.user}: it would change nothing",
                        statement.offset,
                        "run it as a role with BYPASSRLS; nothing was applied",
                    )
                )
    return findings


def _forces_row_security(tree: ast.AlterTableStmt) -> bool:
    wanted = enums.AlterTableType.AT_ForceRowSecurity
    return any(command.subtype == wanted for command in tree.cmds or ())


def _tables(tree: ast.Node) -> set[tuple[str, str]]:
    """Return schema and name of every table of a statement; the runner's path is public alone."""
    tables: set[tuple[str, str]] = set()
    queries: set[tuple[str, str]] = set()

    class Collect(Visitor):
        def visit_RangeVar(self, _: object, node: ast.RangeVar) -> None:  # noqa: N802 (pglast's name)
            tables.add((node.schemaname or "public", str(node.relname)))

        def visit_CommonTableExpr(self, _: object, node: ast.CommonTableExpr) -> None:  # noqa: N802 (pglast's name)
            queries.add(("public", str(node.ctename)))

    Collect()(tree)
    return tables - queries


def _names(tables: set[tuple[str, str]]) -> str:
    return ", ".join(".".join(table) for table in sorted(tables))
