"""Who does it, and what they are refused: what the schema's tests share.

Every test runs in one transaction that is rolled back. Its rows are older than that transaction, so
a time that moved is `now()` and one that did not is `PAST`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

Connection = psycopg.Connection[tuple[Any, ...]]

PAST = datetime(2020, 1, 1, tzinfo=UTC)

# Whose each row is: the tables that the application reads, and the column that says it.
OWNER = dict.fromkeys(["tasks", "task_search", "conversations", "messages"], "user_id")
OWNER |= {'"user"': "id"}

# Alice and Bob have the same things; hers are numbered from 9001, his from 9101.
ROWS = """
insert into "user" (id, name, email, "createdAt", "updatedAt") values
    ('alice', 'Alice', 'alice@example.com', '2020-01-01Z', '2020-01-01Z'),
    ('bob', 'Bob', 'bob@example.com', '2020-01-01Z', '2020-01-01Z');
insert into session (id, "expiresAt", token, "updatedAt", "userId") values
    ('session-a', '2030-01-01', 'token-a', now(), 'alice'),
    ('session-b', '2030-01-01', 'token-b', now(), 'bob');
insert into account (id, "accountId", "providerId", "userId", password, "updatedAt") values
    ('account-a', 'alice', 'credential', 'alice', 'hash', now()),
    ('account-b', 'bob', 'credential', 'bob', 'hash', now());
insert into verification (id, identifier, value, "expiresAt") values
    ('verification', 'reset:alice', 'alice', '2030-01-01');
insert into jwks (id, "publicKey", "privateKey") values ('key', '{}', '{}');
insert into tasks (user_id, id, title, description, due_date, created_at, updated_at)
    overriding system value values
    ('alice', 9001, 'Buy milk', null, null, '2020-01-01Z', '2020-01-01Z'),
    ('alice', 9002, 'Sell cows', 'Two', '2030-01-01', '2020-01-01Z', '2020-01-01Z'),
    ('bob', 9101, 'Read a book', null, null, '2020-01-01Z', '2020-01-01Z'),
    ('bob', 9102, 'Write a book', null, null, '2020-01-01Z', '2020-01-01Z');
insert into conversations (user_id, id, title, created_at, updated_at)
    overriding system value values
    ('alice', 9001, 'Cows', '2020-01-01Z', '2020-01-01Z'),
    ('bob', 9101, 'Books', '2020-01-01Z', '2020-01-01Z');
alter table messages disable trigger messages_touch_conversation;
insert into messages (user_id, id, conversation_id, role, content, created_at)
    overriding system value values
    ('alice', 9001, 9001, 'user', 'How many?', '2020-01-01Z'),
    ('alice', 9002, 9001, 'assistant', 'Two.', '2020-01-01Z'),
    ('bob', 9101, 9101, 'user', 'Which one?', '2020-01-01Z');
set constraints all immediate;
alter table messages enable trigger messages_touch_conversation;
"""


def act_as(connection: Connection, role: str, user: str | None = None) -> None:
    """Take a role (`none`: the owner's again), and a user's context if one is given."""
    connection.execute(f"set local role {role}")
    if user is not None:
        connection.execute("select set_tenant(%s)", [user])


@contextmanager
def refused(
    connection: Connection, error: type[psycopg.Error], constraint: str | None = None
) -> Iterator[None]:
    """Expect the error of one SQLSTATE and, where one is named, by this constraint."""
    with pytest.raises(error) as caught, connection.transaction():
        yield
    assert (type(caught.value), caught.value.diag.constraint_name) == (error, constraint)


def column(connection: Connection, query: str, parameters: Any = None) -> list[Any]:
    """Return the first column of a query's rows."""
    return [row[0] for row in connection.execute(query, parameters)]


def value(connection: Connection, query: str, parameters: Any = None) -> Any:
    """Return the one value of a query."""
    (only,) = column(connection, query, parameters)
    return only
