"""What tests of sessions and of isolation share: sessions of both kinds, two users with the same
rows, probes of what keeps them apart, and mutants of each lock.

A probe passes on the schema and the package as they are. A mutant is one change that opens a lock;
one that its probe does not notice survives, and is a finding.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import pytest
import todo_schema
from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege
from todo_schema import aio, metadata
from todo_schema.corpus import Statement, statements

from tests.schema.acting import OWNER, Connection, act_as, column, refused, value

# A test of sessions of both kinds is written once: what it calls returns its result, or an
# awaitable of it.


async def done(result: Any) -> Any:
    """Return a result, which an asynchronous session gives later."""
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def entered(context: Any) -> AsyncIterator[Any]:
    """Enter a context manager of either kind."""
    if isinstance(context, AbstractContextManager):
        with context as entry:
            yield entry
    else:
        async with context as entry:
            yield entry


class Door:
    """An engine of the package, whose kind begins with `sync` or with `async`."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.is_async = kind.startswith("async")
        self.package: Any = aio if self.is_async else todo_schema
        self.engine = self.package.create_engine(url, **{"connect_retry": 0, **options})
        self.sync_engine = self.engine.sync_engine if self.is_async else self.engine

    def session(self, user: Any, **options: Any) -> Any:
        """Return the context of a user's session."""
        return entered(self.package.user_session(self.engine, user, **options))

    def plain(self) -> Any:
        """Return the context of a session of no user."""
        return entered(self.package.unrestricted_session(self.engine))


@asynccontextmanager
async def opened(kind: str, url: str, **options: Any) -> AsyncIterator[Door]:
    """Give a door, and see to it that all its connections were given back."""
    door = Door(kind, url, **options)
    try:
        yield door
        assert door.sync_engine.pool.checkedout() == 0
    finally:
        await done(door.engine.dispose())


# Two users with the same rows.

SHARED, BOBS = 101, 901
"""An id that both users have in every table, and one that only Bob has."""

TASKS, STALE = 73, 36
"""How many tasks Alice has, and how many of them her search does not find."""

# Every combination of what a list can filter by, on each side of each cursor. Task 902 has no row
# for the search, so that no key stands in the way of another one.
ROWS = """
insert into "user" (id, name, email) values ('{0}', '{0}', '{0}@example.com');
insert into tasks (
    user_id, id, title, description, status, priority, due_date, tags, created_at, updated_at
)
overriding system value
select
    '{0}',
    part * 100 + row_number() over (partition by part order by status, priority, due),
    title, 'Milk', status, priority, due, '{{home}}', moment, moment
from (
    values
        (1, 'Buy', timestamptz '2026-04-01Z'), (2, 'Buy', '2026-04-01Z'),
        (3, 'Buy milk', '2026-06-01Z'), (4, 'Buy milk', '2026-06-01Z')
) as parts (part, title, moment)
cross join unnest('{{pending,in_progress,completed}}'::text[]) as status
cross join unnest('{{low,medium,high}}'::text[]) as priority
cross join unnest('{{2026-05-01,null}}'::date[]) as due;
insert into tasks (user_id, id, title) overriding system value values ('{0}', 902, 'x');
delete from task_search where user_id = '{0}' and task_id = 902;
insert into conversations (user_id, id, title, updated_at) overriding system value
values ('{0}', 101, 'x', now()), ('{0}', 401, 'x', '2026-04-01Z');
insert into messages (user_id, id, conversation_id, role, content) overriding system value
values ('{0}', 101, 101, 'user', 'x'), ('{0}', 401, 101, 'user', 'x');
"""

# Words that her tasks have and their search rows lack: only another user's search row finds them.
STALE_WORDS = """
update task_search set words = '' where user_id = 'alice' and task_id / 100 in (2, 4)
"""

ONLY_BOBS = """
insert into tasks (user_id, id, title) overriding system value values ('bob', 901, 'Buy milk');
insert into conversations (user_id, id) overriding system value values ('bob', 901);
insert into messages (user_id, id, conversation_id, role, content) overriding system value
values ('bob', 901, 901, 'user', 'x');
"""


def add_alice(connection: Connection) -> None:
    """Store Alice's rows."""
    connection.execute(ROWS.format("alice"))
    connection.execute(STALE_WORDS)


def add_bob(connection: Connection) -> None:
    """Store Bob's rows: the same with the same ids, and some that only he has."""
    connection.execute(ROWS.format("bob"))
    connection.execute(ONLY_BOBS)


@contextmanager
def undone(connection: Connection) -> Iterator[None]:
    """Undo what the block does, its role and its user with it."""
    with connection.transaction(force_rollback=True):
        yield


def survivors(
    connection: Connection, mutants: str, probe: Callable[[Connection], None]
) -> tuple[int, list[str]]:
    """Return how many mutants there are, each a statement, and after which the probe passes."""
    with undone(connection):
        probe(connection)
    alive = []
    for mutant in (known := column(connection, mutants)):
        with undone(connection):
            connection.execute(mutant)
            try:
                with undone(connection):
                    probe(connection)
            except (AssertionError, psycopg.Error, pytest.fail.Exception):
                continue
        alive.append(mutant)
    return len(known), alive


# The mirrors of tables with rows of users: all of `OWNER`, and no other.
OWN = [table for table in metadata.tables.values() if "user_id" in table.c or table.name == "user"]
assert {table.name for table in OWN} == {name.strip('"') for name in OWNER}


def rows_of(connection: Connection, user: str) -> str:
    """Return a digest of all rows of a user."""
    parts = " union all ".join(
        f"select t::text as row from {table} as t where {name} = '{user}'"
        for table, name in OWNER.items()
    )
    return value(connection, f"select md5(string_agg(row, '' order by row)) from ({parts}) as r")


# Lock one: row security.

# What a policy says of one role must not become true for all, nor what it says of a user's rows
# for all rows: of those that are read, of those that are written, or of both.
POLICY_MUTANTS = """
select format('drop policy %I on %s', polname, polrelid::regclass)
from pg_policy
union all
select format('alter policy %I on %s %s', polname, polrelid::regclass, opened)
from pg_policy
cross join pg_get_expr(polqual, polrelid) as rule
cross join lateral (
    values
        ('to public', rule = 'true'),
        ('using (true)', rule <> 'true'),
        (format('using (true) with check (%s)', rule), rule <> 'true' and polcmd = '*'),
        ('with check (true)', rule <> 'true' and polcmd = '*')
) as mutant (opened, applies)
where applies
union all
select format('alter table %s %s', oid::regclass, opened)
from pg_class
cross join unnest('{disable row level security,no force row level security}'::text[]) as opened
where relrowsecurity
order by 1
"""

INSERTS = {
    '"user"': """insert into "user" (id, name, email) values ('{0}', 'x', '{0}@example.org')""",
    "tasks": "insert into tasks (user_id, title) values ('{0}', 'x')",
    "task_search": "insert into task_search values ('{0}', 902, 'x')",
    "conversations": "insert into conversations (user_id) values ('{0}')",
    "messages": "insert into messages (user_id, conversation_id, role, content) "
    "values ('{0}', 101, 'user', 'x')",
}

ANOTHERS_PARENT = [
    "insert into task_search values ('alice', 901, 'x')",
    "insert into messages (user_id, conversation_id, role, content) "
    "values ('alice', 901, 'user', 'x')",
]


def probe_policies(superuser: Connection) -> None:
    """Send SQL without any condition as each role, with every grant: row security alone decides."""
    superuser.execute(f"grant all on {', '.join(OWNER)} to todo_app")
    bobs = rows_of(superuser, "bob")
    for table, name in OWNER.items():
        with undone(superuser):
            _probe_table(superuser, table, name)
            act_as(superuser, "none")
            assert rows_of(superuser, "bob") == bobs
    for role, seen in ("todo_readonly", list(OWNER)), ("todo_auth", ['"user"']):
        act_as(superuser, role)
        for table in seen:
            users = f"select distinct {OWNER[table]} from {table} order by 1"
            assert column(superuser, users) == ["alice", "bob"]
    with undone(superuser):
        superuser.execute(INSERTS['"user"'].format("carol"))
        for write in """update "user" set name = 'x'""", 'delete from "user"':
            assert superuser.execute(write).rowcount == 3
    # FORCE is for the table's owner, whom no policy names.
    for table in OWNER:
        with undone(superuser):
            act_as(superuser, "none")
            query = "select relowner::regrole::text from pg_class where oid = %s::regclass"
            owner = value(superuser, query, [table])
            superuser.execute(f"alter role {owner} nobypassrls")
            act_as(superuser, owner)
            assert value(superuser, f"select count(*) from {table}") == 0


def _probe_table(connection: Connection, table: str, name: str) -> None:
    """Do everything to one table as Alice: to her own rows it works, and to no other."""
    writable = table != '"user"'
    mine = value(connection, f"select count(*) from {table} where {name} = 'alice'")
    act_as(connection, "todo_app", "alice")
    assert column(connection, f"select {name} from {table}") == ["alice"] * mine != []
    with refused(connection, InsufficientPrivilege):
        connection.execute(INSERTS[table].format("bob"))
    if writable:
        with refused(connection, InsufficientPrivilege):
            connection.execute(f"update {table} set {name} = 'bob'")
        with undone(connection):
            assert connection.execute(INSERTS[table].format("alice")).rowcount == 1
    for insert in ANOTHERS_PARENT:
        with pytest.raises(ForeignKeyViolation), undone(connection):
            connection.execute(insert)
    for write in f"update {table} set {name} = {name}", f"delete from {table}":
        assert connection.execute(write).rowcount == (mine if writable else 0)


# Privileges.

PRIVILEGE_MUTANTS = """
select format('revoke %s on %s from %s', privilege_type, oid::regclass, grantee::regrole)
from pg_class
cross join aclexplode(relacl)
where grantee = '{0}'::regrole
union all
select format(
    'revoke %s (%I) on %s from %s',
    privilege_type, attname, attrelid::regclass, grantee::regrole
)
from pg_attribute
cross join aclexplode(attacl)
where grantee = '{0}'::regrole
union all
select format(
    'revoke %s on function %s from %s', privilege_type, oid::regprocedure, grantee::regrole
)
from pg_proc
cross join aclexplode(proacl)
where grantee = '{0}'::regrole
order by 1
"""

# Better Auth reads and returns whole rows. Sign-up, sign-in, the session and its renewal, profile
# and password, reset, keys, sign-out, and the end of an account.
FLOWS = [
    "select schema_version()",  # an auth service's own start-up check
    """select * from "user" where email = 'bob@example.com'""",
    """insert into "user" (id, name, email) values ('carol', 'x', 'c@example.org') returning *""",
    """
    insert into account (id, "accountId", "providerId", "userId", password, "updatedAt")
    values ('x', 'carol', 'credential', 'carol', 'x', now()) returning *
    """,
    """
    insert into session (id, "expiresAt", token, "updatedAt", "userId")
    values ('x', now(), 'x', now(), 'carol') returning *
    """,
    """select * from account where "userId" = 'carol'""",
    "select * from session where token = 'x'",
    "update session set \"expiresAt\" = now() where token = 'x' returning *",
    "update \"user\" set name = 'y' where id = 'carol' returning *",
    "update account set password = 'y' where id = 'x' returning *",
    """
    insert into verification (id, identifier, value, "expiresAt")
    values ('x', 'x', 'carol', now()) returning *
    """,
    """select * from verification where identifier = 'x' order by "createdAt" desc limit 1""",
    "delete from verification where id = 'x'",
    """insert into jwks (id, "publicKey", "privateKey") values ('x', 'x', 'x') returning *""",
    "select * from jwks",
    "delete from session where token = 'x'",
    """delete from account where "userId" = 'carol'""",
    "delete from \"user\" where id = 'carol'",
]

# Who only reads searches as the application does, and sees which search rows are not up to date.
READINGS = [
    *(f'select * from "{table.name}"' for table in OWN),
    """
    select id
    from tasks
    join task_search on task_search.user_id = tasks.user_id and task_id = id
    cross join search_query('milk') as query
    where
        words like any (search_patterns(query)) and task_vector(title, description) @@ query
        or words <> search_words(task_vector(title, description))
    """,
    "select schema_version()",
]


def probe_application(connection: Connection) -> None:
    """Send all that the package sends, on rows that it finds."""
    act_as(connection, "todo_app", "alice")
    for table in OWN:  # as SQLAlchemy does: every column that the mirror knows
        columns = ", ".join(f'"{each.name}"' for each in table.columns)
        connection.execute(f'select {columns} from "{table.name}"')
    for statement in statements():
        with undone(connection):
            connection.execute(statement.sql, {**values(statement)[0], "user_id": "alice"})


def probe_auth(connection: Connection) -> None:
    """Send what Better Auth sends."""
    act_as(connection, "todo_auth")
    for statement in FLOWS:
        assert connection.execute(statement).rowcount > 0


def probe_readonly(connection: Connection) -> None:
    """Read what people read."""
    act_as(connection, "todo_readonly")
    for statement in READINGS:
        assert connection.execute(statement).rowcount > 0


#: What is tried without, each a query of mutants, and the probe that must notice.
MUTANTS: dict[str, tuple[str, Callable[[Connection], None]]] = {
    "policies": (POLICY_MUTANTS, probe_policies),
    "grants of todo_app": (PRIVILEGE_MUTANTS.format("todo_app"), probe_application),
    "grants of todo_auth": (PRIVILEGE_MUTANTS.format("todo_auth"), probe_auth),
    "grants of todo_readonly": (PRIVILEGE_MUTANTS.format("todo_readonly"), probe_readonly),
}

# Lock two: the statements themselves.

#: What the corpus does not fit to these rows: all of Bob's have a place inside every limit.
VALUES: dict[str, Any] = {
    "limit": 1000,
    "reach": 1000,
    "most": 100_000,
    "after_id": 250,
    "due_before": date(2026, 6, 1),
    "due_after": date(2026, 4, 1),
}

#: Rows that both have, and rows that only Bob has.
IDS: list[dict[str, Any]] = [
    {"id": SHARED, "ids": [SHARED, 102], "conversation_id": SHARED},
    {"id": BOBS, "ids": [SHARED, BOBS], "conversation_id": BOBS},
]

_USER = re.compile(r"(\b(user_id|id) = )?%\(user_id\)s")
_WRITES = re.compile(r"\b(insert into|update|delete from) ")

Outcome = tuple[list[tuple[Any, ...]], str | None]


def values(statement: Statement) -> list[dict[str, Any]]:
    """Return each set of parameters that a statement is probed with."""
    given = {**statement.parameters, **VALUES}
    return [given | ids for ids in (IDS if IDS[0].keys() & statement.parameters else IDS[:1])]


def filter_mutants(sql: str) -> list[str]:
    """Return the statement without each of its filters, or with another user for its own."""
    return [
        sql[: found.start()] + ("true" if found[1] else "'bob'") + sql[found.end() :]
        for found in _USER.finditer(sql)
    ]


def outcomes(connection: Connection, statement: Statement, bobs: str) -> list[Outcome]:
    """Return what a statement of Alice's answers, and Bob's rows where they are not `bobs`."""
    found: list[Outcome] = []
    for each in values(statement):
        with undone(connection):
            cursor = connection.execute(statement.sql, {**each, "user_id": "alice"})
            # A new row's id comes from a sequence, which no rollback turns back.
            rows = [row[1:] if statement.sql.startswith("insert") else row for row in cursor]
            changed = None
            if _WRITES.search(statement.sql):
                after = rows_of(connection, "bob")
                changed = after if after != bobs else None
        found.append((rows, changed))
    return found


def filters(connection: Connection, corpus: Sequence[Statement]) -> tuple[int, list[str]]:
    """Probe statements by a role that row security does not bind.

    A statement's answer must be the same with Bob's rows as it was before they were there, and
    change nothing of his; without any one of its filters it must not.

    Returns
    -------
    The number of filters, and the statements without the filter whose loss nothing noticed.
    """
    add_alice(connection)
    nothing = rows_of(connection, "bob")
    alone = [outcomes(connection, each, nothing) for each in corpus]
    add_bob(connection)
    bobs = rows_of(connection, "bob")
    count, alive = 0, []
    for statement, expected in zip(corpus, alone, strict=True):
        assert outcomes(connection, statement, bobs) == expected, statement.name
        for mutant in filter_mutants(statement.sql):
            count += 1
            try:
                noticed = outcomes(connection, replace(statement, sql=mutant), bobs) != expected
            except psycopg.Error:
                continue
            if not noticed:
                alive.append(f"{statement.name}\n{mutant}")
    return count, alive
