"""Plans of statements, as the planner makes them for one tenant, or once for any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from scripts.plans.corpus import Statement
from scripts.plans.reading import Node, Reach, Reading, read_catalog, reading, shape
from scripts.settings import project

GENERIC = "any"
"""Whose plan is made without a look at the parameters, as a prepared statement's may be."""

HEAVY, TYPICAL = "heavy", "typical"
"""A tenant whom the statistics know for many rows, and one whom they do not."""


@dataclass(frozen=True)
class Plan:
    """One plan.

    Parameters
    ----------
    statement : of what
    tenant : for whom: `any`, `heavy` or `typical`
    root : the node that EXPLAIN shows first
    reading : what it reads
    """

    statement: Statement
    tenant: str
    root: Node
    reading: Reading

    @property
    def shape(self) -> str:
        """The plan without costs and values: equal where it does the same."""
        return shape(self.root)

    @property
    def fault(self) -> str | None:
        """What the plan does that the statement is not meant to, in words.

        A tenant of few rows may have them all read, and sorted.
        """
        meant, found = self.statement.reads, self.reading
        if self.tenant == TYPICAL and meant > Reach.KEY:
            meant = max(meant, Reach.RANGE)
        if found.reach > meant:
            return f"reads {found.reach}, not {meant}"
        if self.tenant != TYPICAL and (
            unused := {*self.statement.indexes} - {*found.indexes} - found.spared
        ):
            return f"does not read by {', '.join(sorted(unused))}"
        return None


class Planner:
    """Asks a database for plans, as the role that sends the statement and under row security.

    Parameters
    ----------
    connection : in autocommit mode, of a role that may become the others
    tenants : the value of the tenant column, by `heavy` and `typical`
    change : SQL that is undone again after the plans
    """

    def __init__(
        self, connection: psycopg.Connection, tenants: Mapping[str, str], change: str = ""
    ) -> None:
        self._connection = connection
        self._tenants = tenants
        self._change = change
        self._catalog = read_catalog(connection, project().tenant_column)
        self._now: tuple[str, str] | None = None

    def plans(self, statements: Sequence[Statement], tenant: str) -> list[Plan]:
        """Return the plans of some statements of one role, asked for in one go.

        Raises
        ------
        psycopg.Error : the database refuses one of them
        """
        plans = []
        for statement, rows in zip(
            statements, self._explain(statements, tenant, "format json, costs off"), strict=True
        ):
            root: Node = rows[0][0][0]["Plan"]
            plans.append(Plan(statement, tenant, root, reading(root, self._catalog, statement.sql)))
        return plans

    def text(self, statement: Statement, tenant: str) -> list[str]:
        """Return the lines of EXPLAIN's own tree of a plan, with costs; raises as `plans`."""
        (rows,) = self._explain([statement], tenant, "costs")
        return [line for (line,) in rows]

    def _explain(
        self, statements: Sequence[Statement], tenant: str, options: str
    ) -> list[list[Any]]:
        value = self._tenants[HEAVY if tenant == GENERIC else tenant]
        self._enter(statements[0].role, value)
        cursor = psycopg.RawCursor(self._connection)
        try:
            if tenant == GENERIC:
                return self._explain_generic(statements, options)
            found = []
            for statement in statements:
                text, names = statement.numbered
                values = {**statement.parameters, project().tenant_column: value}
                explain = f"explain ({options}) {text}".encode()
                found.append(cursor.execute(explain, [values[name] for name in names]).fetchall())
            return found
        except psycopg.Error:
            self._now = None  # the transaction has failed
            raise

    def _explain_generic(self, statements: Sequence[Statement], options: str) -> list[list[Any]]:
        """Explain without parameters, all in one message, which spares a third of the time."""
        texts = (f"explain (generic_plan, {options}) {each.numbered[0]}" for each in statements)
        cursor = self._connection.execute(";".join(texts).encode())
        found = [cursor.fetchall()]
        while cursor.nextset():
            found.append(cursor.fetchall())
        return found

    def _enter(self, role: str, tenant: str) -> None:
        """Begin a transaction of a role and a tenant, where it is not theirs already."""
        if self._now == (role, tenant):
            return
        begin: list[sql.Composable] = [sql.SQL("rollback; begin")]
        if self._change:
            begin.append(sql.SQL(self._change))
        begin.append(sql.SQL("set local row_security = on"))
        begin.append(sql.SQL("set local role {}").format(sql.Identifier(role)))
        if role == project().application_role:
            context = sql.Identifier(project().context_function)
            begin.append(sql.SQL("select {}({})").format(context, sql.Literal(tenant)))
        self._now = None  # where the role or the function is missing, no transaction is theirs
        self._connection.execute(sql.SQL("; ").join(begin))
        self._now = (role, tenant)

    def close(self) -> None:
        """Undo the change."""
        self._connection.execute("rollback")
        self._now = None
