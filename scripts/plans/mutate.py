"""Which statement needs which index: each is dropped once, and what used it planned again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.plans.corpus import Statement
from scripts.plans.explain import GENERIC, HEAVY, Plan, Planner
from scripts.plans.reading import Reach
from scripts.plans.statistics import Statistics
from scripts.plans.survey import planner
from scripts.plans.twin import twin

INDEXES = """
select
    i.relname,
    t.relname,
    c.conname,
    case
        when c.conname is not null then 'its constraint'
        when x.indisunique then 'unique rows'
        when exists (
            select
            from pg_constraint as f
            where
                f.contype = 'f'
                and f.conrelid = t.oid
                and (x.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey
                and not exists (
                    select
                    from pg_index as other
                    where
                        other.indrelid = t.oid
                        and other.indexrelid <> x.indexrelid
                        and (other.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey
                )
        )
            then 'its foreign key'
    end,
    pg_relation_size(i.oid)
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as t on t.oid = x.indrelid
left join pg_constraint as c on c.conindid = i.oid and c.contype in ('p', 'u', 'x')
where
    t.relnamespace = 'public'::regnamespace
    and not t.relname = any (%s)
    and not i.relispartition
order by t.relname, i.relname
"""


@dataclass(frozen=True)
class Dropped:
    """What came of dropping one index.

    Parameters
    ----------
    index, table : which
    kept : what it stays for in any case: its constraint, unique rows, its foreign key; or None
    size : its bytes
    reading : the statements that read by it
    worse : of those, by name, what each reads without it, where that is more than it is meant to
    """

    index: str
    table: str
    kept: str | None
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
        before: dict[str, dict[str, Reach]] = {}
        with planner(address) as asked:
            for statement in corpus:
                for plan in _plans(asked, statement, (HEAVY, GENERIC)):
                    for index in plan.reading.indexes:
                        before.setdefault(index, {})[statement.name] = plan.reading.reach
        by_name = {statement.name: statement for statement in corpus}
        with connect(address, purpose="plans") as connection:
            known = connection.execute(INDEXES, [list(ignored)]).fetchall()
        for index, table, constraint, kept, size in known:
            drop = _drop(index, table, constraint)
            users = before.get(index, {})
            with planner(address, drop) as asked:
                worse = {
                    name: str(plan.reading.reach)
                    for name, reach in users.items()
                    for plan in _plans(asked, by_name[name], (GENERIC,))
                    if plan.reading.reach > max(reach, by_name[name].reads)
                }
            yield Dropped(index, table, kept, size, [*users], worse)


def _plans(asked: Planner, statement: Statement, tenants: Sequence[str]) -> Iterator[Plan]:
    """Yield a statement's plans; none where the database refuses it, which `survey` tells."""
    with suppress(psycopg.errors.Error):
        for tenant in tenants:
            yield from asked.plans([statement], tenant)


def unneeded(found: Sequence[Dropped]) -> Iterator[Finding]:
    """Yield a finding for each index that no statement needs and that does not stay in any case."""
    for each in found:
        if not each.worse and not each.kept:
            yield Finding(
                "unneeded-index",
                f"{each.index} on {each.table}: without it no statement reads more than it may",
                object=each.index,
                fix="drop it, or add the statement that needs it to the corpus",
            )


def _drop(index: str, table: str, constraint: str | None) -> str:
    if constraint is None:
        statement = sql.SQL("drop index {} cascade").format(sql.Identifier(index))
    else:
        statement = sql.SQL("alter table {} drop constraint {} cascade").format(
            sql.Identifier(table), sql.Identifier(constraint)
        )
    return statement.as_string()
