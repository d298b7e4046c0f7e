"""The database keeps users apart, whatever the application's statements forget."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, InvalidParameterValue

from tests.schema.acting import OWNER, Connection, act_as, column, refused, value

pytestmark = pytest.mark.row("R7")

CURRENT = "select nullif(current_setting('app.user_id', true), '')"


def rows(connection: Connection, user: str) -> dict[str, list[Any]]:
    """Return every row of a user, with its place: an update writes a new version elsewhere."""
    return {
        table: connection.execute(
            f"select ctid::text, t::text from {table} as t where {name} = %s order by 1", [user]
        ).fetchall()
        for table, name in {**OWNER, "session": '"userId"', "account": '"userId"'}.items()
    }


@pytest.mark.parametrize(
    ("role", "context", "seen"),
    [
        ("todo_app", "alice", ["alice"]),
        ("todo_app", "bob", ["bob"]),
        ("todo_app", "nobody", []),
        ("todo_app", "", []),
        ("todo_app", None, []),
        ("todo_readonly", None, ["alice", "bob"]),
    ],
)
@pytest.mark.parametrize("table", OWNER)
def test_who_sees_whose_rows(
    owner: Connection, table: str, role: str, context: str | None, seen: list[str]
) -> None:
    act_as(owner, role)
    if context is not None:
        owner.execute("select set_config('app.user_id', %s, true)", [context])
    assert column(owner, f"select distinct {OWNER[table]} from {table} order by 1") == seen


@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize(
    "statement",
    [
        "update tasks set title = 'x'",
        "update task_search set words = ''",
        "update conversations set title = 'x'",
        "delete from tasks",
        "delete from conversations",
        "delete from messages",
    ],
)
def test_another_users_rows_are_not_written(
    owner: Connection, statement: str, user: str | None
) -> None:
    before = rows(owner, "bob")
    act_as(owner, "todo_app", user)
    assert (owner.execute(statement).rowcount > 0) is (user is not None)
    act_as(owner, "none")
    assert rows(owner, "bob") == before


@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into tasks (user_id, title) values ('bob', 'x')",
        "insert into task_search (user_id, task_id, words) values ('bob', 9101, '')",
        "insert into conversations (user_id) values ('bob')",
        """
        insert into messages (user_id, conversation_id, role, content)
        values ('bob', 9101, 'user', 'x')
        """,
    ],
)
def test_nothing_is_inserted_for_another(
    owner: Connection, statement: str, user: str | None
) -> None:
    act_as(owner, "todo_app", user)
    with pytest.raises(InsufficientPrivilege, match="row-level security"):
        owner.execute(statement)


@pytest.mark.row("R1")
def test_better_auth_writes_every_account(owner: Connection) -> None:
    act_as(owner, "todo_auth")
    for statement in (
        """insert into "user" (id, name, email) values ('carol', 'Carol', 'c@d') returning *""",
        """select * from "user" where email = 'bob@example.com'""",
        """update "user" set name = 'x' where id = 'alice' returning *""",
    ):
        assert owner.execute(statement).rowcount == 1


@pytest.mark.row("R1", "R4")
@pytest.mark.parametrize("role", ["todo_auth", "none"])
def test_deleting_a_user_removes_all_that_is_theirs(owner: Connection, role: str) -> None:
    bobs = rows(owner, "bob")
    assert all(rows(owner, "alice").values())
    act_as(owner, role)
    # The cascade removes the rest from tables that the role may not touch.
    assert owner.execute("""delete from "user" where id = 'alice'""").rowcount == 1
    act_as(owner, "none")
    assert not any(rows(owner, "alice").values())
    assert rows(owner, "bob") == bobs
    assert column(owner, "select id from verification union select id from jwks order by 1") == [
        "key",
        "verification",
    ]


@pytest.mark.row("R4")
@pytest.mark.parametrize("role", ["todo_app", "none"])
@pytest.mark.parametrize(
    ("parent", "child", "left"), [("tasks", "task_search", 1), ("conversations", "messages", 0)]
)
def test_deleting_a_parent_removes_its_children(
    owner: Connection, parent: str, child: str, left: int, role: str
) -> None:
    before, bobs = rows(owner, "alice"), rows(owner, "bob")
    act_as(owner, role, "alice")
    assert owner.execute(f"delete from {parent} where id = 9001").rowcount == 1
    act_as(owner, "none")
    after = rows(owner, "alice")
    assert (len(after.pop(parent)), len(after.pop(child))) == (left, left)
    assert after.items() <= before.items()
    assert rows(owner, "bob") == bobs


@pytest.mark.parametrize("user", [None, ""])
def test_the_context_is_never_nobody(owner: Connection, user: str | None) -> None:
    act_as(owner, "todo_app", "alice")
    with refused(owner, InvalidParameterValue):
        owner.execute("select set_tenant(%s)", [user])
    assert value(owner, CURRENT) == "alice"


@pytest.mark.parametrize(
    "user",
    [" ", "it's", "a\\'b\\", "'; set local app.user_id = 'bob", "$$ %L", "\u00fc\U0001f600" * 127],
)
def test_the_context_takes_any_other_text_as_it_is(empty: Connection, user: str) -> None:
    path = value(empty, "show search_path")
    act_as(empty, "todo_app", user)
    assert value(empty, CURRENT) == user
    assert value(empty, "show search_path") == path


@pytest.mark.parametrize("undone", [False, True])
def test_the_context_ends_with_its_transaction(database: str, undone: bool) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        with connection.transaction(force_rollback=undone):
            connection.execute("select set_tenant('alice')")
            with connection.transaction(force_rollback=undone):  # a savepoint
                connection.execute("select set_tenant('bob')")
            assert value(connection, CURRENT) == ("alice" if undone else "bob")
        assert value(connection, CURRENT) is None
        # Outside a transaction it holds for its own statement.
        connection.execute("select set_tenant('alice')")
        assert value(connection, CURRENT) is None
