"""Which statement needs which index: each is dropped once, and what used it planned again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.plans.corpus import Statement
from scripts.plans.explain import GENERIC, HEAVY
from scripts.plans.statistics import Statistics
from scripts.plans.survey import planner
from scripts.plans.twin import twin

INDEXES = """
select i.relname, t.relname, c.conname, pg_relation_size(i.oid)
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as t on t.oid = x.indrelid
left join pg_constraint as c on c.conindid = i.oid and c.contype in ('p', 'u', 'x')
where t.relnamespace = 'public'::regnamespace and not t.relname = any (%s)
order by t.relname, i.relname
"""


@dataclass(frozen=True)
class Dropped:
    """What came of dropping one index.

    Parameters
    ----------
    index, table : which
    constraint : whether it backs a constraint, and stays for that
    size : its bytes
    reading : the statements that read by it
    worse : of those, by name, what each reads without it, where that is more than it is meant to
    """

    index: str
    table: str
    constraint: bool
    size: int
    reading: list[str]
    worse: dict[str, str]


def mutate(
    build: Callable[[Address], object],
    statistics: Statistics,
    corpus: Sequence[Statement],
    *,
    ignored: Sequence[str] = (),
) -> Iterator[Dropped]:
    """Drop each index of a twin in a transaction that is rolled back, and plan again.

    Parameters
    ----------
    build : makes the schema in an empty database
    statistics : of the size at which it is asked
    corpus : the statements
    ignored : tables whose indexes are not asked for
    """
    with twin(build, statistics) as address:
        users: dict[str, list[Statement]] = {}
        with planner(address) as asked:
            for statement in corpus:
                plans = [asked.plans([statement], tenant)[0] for tenant in (HEAVY, GENERIC)]
                for index in {index for plan in plans for index in plan.reading.indexes}:
                    users.setdefault(index, []).append(statement)
        with connect(address, purpose="plans") as connection:
            known = connection.execute(INDEXES, [list(ignored)]).fetchall()
        for index, table, constraint, size in known:
            drop = _drop(index, table, constraint)
            reading = users.get(index, [])
            with planner(address, drop) as asked:
                worse = {
                    statement.name: f"{plan.reading.reach}"
                    for statement in reading
                    for plan in asked.plans([statement], GENERIC)
                    if plan.reading.reach > statement.reads
                }
            names = [statement.name for statement in reading]
            yield Dropped(index, table, constraint is not None, size, names, worse)


def unneeded(found: Sequence[Dropped]) -> Iterator[Finding]:
    """Yield a finding for each index that no statement needs and no constraint."""
    for each in found:
        if not each.worse and not each.constraint:
            yield Finding(
                "unneeded-index",
                f"{each.index} on {each.table}: without it no statement reads more than it may",
                object=each.index,
                fix="drop it, or add the statement that needs it to the corpus",
            )


def _drop(index: str, table: str, constraint: str | None) -> str:
    if constraint is None:
        statement = sql.SQL("drop index {}").format(sql.Identifier(index))
    else:
        statement = sql.SQL("alter table {} drop constraint {} cascade").format(
            sql.Identifier(table), sql.Identifier(constraint)
        )
    return statement.as_string()
