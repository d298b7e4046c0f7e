"""The plans of many statements at several sizes, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from shlex import quote
from threading import Event

import psycopg

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.plans.corpus import Statement
from scripts.plans.explain import GENERIC, HEAVY, TYPICAL, Plan, Planner
from scripts.plans.reading import Reach
from scripts.plans.statistics import Statistics, placeholder
from scripts.plans.twin import twin
from scripts.settings import project

SESSIONS = 4
"""That ask at once: while one waits for its client, another plans."""

BATCH = 50
"""Plans asked for in one go, which spares waiting for each."""

TENANTS = (HEAVY, GENERIC, TYPICAL)


@dataclass(frozen=True)
class Outcome:
    """What one plan came to.

    Parameters
    ----------
    statement : its name
    rows : of the counted table
    tenant : for whom
    reads : how many rows at the most
    indexes : by which
    shape : a number that equal plans share; 0 where it may follow the size of a tenant's data
    fault : what it should not do, or None
    """

    statement: str
    rows: int
    tenant: str
    reads: Reach
    indexes: tuple[str, ...]
    shape: int
    fault: str | None


def survey(
    build: Callable[[Address], object],
    statistics: Statistics,
    corpus: Sequence[Statement],
    sizes: Sequence[int],
    *,
    progress: Callable[[int, int], None] = lambda _count, _total: None,
    tenants: Sequence[str] = TENANTS,
) -> list[Outcome]:
    """Plan each statement at each size, for each kind of tenant.

    Parameters
    ----------
    build : makes the schema in an empty database
    statistics : what is scaled
    corpus : the statements
    sizes : rows of the counted table
    progress : told how many more plans are made, of how many
    tenants : for whom

    Raises
    ------
    ToolError : there is no local server, or `build` fails
    """
    found: list[Outcome] = []
    shares = [corpus[number::SESSIONS] for number in range(SESSIONS)]
    for rows in sizes:
        with (
            twin(build, statistics.scaled(rows)) as address,
            ThreadPoolExecutor(SESSIONS) as pool,
        ):
            stop = Event()
            ask = partial(_ask, address, rows, tenants, stop)
            try:
                for done in pool.map(ask, shares):
                    found += done
                    progress(len(done), len(corpus) * len(tenants) * len(sizes))
            finally:  # also after Ctrl-C
                stop.set()
    return found


def _ask(
    address: Address,
    rows: int,
    tenants: Sequence[str],
    stop: Event,
    statements: Sequence[Statement],
) -> list[Outcome]:
    found: list[Outcome] = []
    with planner(address) as asked:
        for tenant in tenants:
            for _, group in groupby(statements, key=lambda statement: statement.role):
                same_role = list(group)
                for first in range(0, len(same_role), BATCH):
                    if stop.is_set():
                        return found
                    found += _outcomes(asked, same_role[first : first + BATCH], tenant, rows)
    return found


def _outcomes(
    asked: Planner, statements: Sequence[Statement], tenant: str, rows: int
) -> list[Outcome]:
    try:
        return [_outcome(plan, rows) for plan in asked.plans(statements, tenant)]
    except psycopg.Error as error:
        if not error.sqlstate:
            raise
        if len(statements) > 1:  # which of them is it?
            return [each for one in statements for each in _outcomes(asked, [one], tenant, rows)]
        fault = f"is refused: {error.diag.message_primary}"
        return [Outcome(statements[0].name, rows, tenant, Reach.NOTHING, (), 0, fault)]


def _outcome(plan: Plan, rows: int) -> Outcome:
    kept = plan.tenant != TYPICAL and plan.statement.reads < Reach.RANGE
    return Outcome(
        plan.statement.name,
        rows,
        plan.tenant,
        plan.reading.reach,
        tuple(plan.reading.indexes),
        hash(plan.shape) if kept else 0,
        plan.fault,
    )


@contextmanager
def planner(address: Address, change: str = "") -> Iterator[Planner]:
    """Give what asks a twin for plans, for its placeholders of tenants."""
    with connect(address, purpose="plans") as connection:
        connection.execute("set ignore_checksum_failure = on")  # of pages that `plant` has changed
        type_ = tenant_type(connection)
        heavy = placeholder(type_, 1) or "1"
        tenants = {HEAVY: heavy, TYPICAL: placeholder(type_, 10**6) or "2"}
        with closing(Planner(connection, tenants, change)) as asked:
            yield asked


def tenant_type(connection: psycopg.Connection) -> str:
    """Return the type of the tenant column; `text` where no table has one."""
    row = connection.execute(
        "select format_type(atttypid, null) from pg_attribute join pg_class on oid = attrelid "
        "where attname = %s and relnamespace = 'public'::regnamespace and relkind = 'r' limit 1",
        [project().tenant_column],
    ).fetchone()
    return row[0] if row else "text"


def faults(outcomes: Sequence[Outcome], options: str = "") -> Iterator[Finding]:
    """Yield a finding for each statement whose plan is not as it is meant to be, or changes.

    Parameters
    ----------
    outcomes : of `survey`
    options : those of the command that shows the plan
    """
    shapes: dict[tuple[str, str], int] = {}
    told: set[str] = set()
    for each in outcomes:
        fault, code = each.fault, "plan"
        if not fault and shapes.setdefault((each.statement, each.tenant), each.shape) != each.shape:
            fault, code = "another plan than with fewer rows", "plan-changes"
        if fault and each.statement not in told:
            told.add(each.statement)
            place = f"at {each.rows:,} rows, planned for {each.tenant} tenant"
            yield Finding(
                code,
                f"{each.statement}: {fault} ({place})",
                object=each.statement,
                fix=f"python -m scripts plans show {quote(each.statement)} --rows {each.rows} "
                f"--tenant {each.tenant}{options}",
            )
