"""updated_at moves on every real change, whoever makes it, and on no other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.schema.acting import PAST, Connection, act_as, column, refused, value

INSUFFICIENT_PRIVILEGE = "42501"
GENERATED_ALWAYS = "428C9"

CHANGES = [
    ("tasks", "title", "x"),
    ("tasks", "description", "x"),
    ("tasks", "status", "in_progress"),
    ("tasks", "priority", "high"),
    ("tasks", "due_date", "2030-01-01"),
    ("tasks", "tags", ["x"]),
    ("conversations", "title", "x"),
    ("conversations", "title", None),
]


def times(connection: Connection, table: str, id_: int = 9001) -> tuple[bool, bool]:
    """Return whether created_at is PAST, and whether updated_at is now()."""
    row = connection.execute(
        f"select created_at, updated_at, now() from {table} where id = %s", [id_]
    ).fetchone()
    assert row is not None
    created, updated, now = row
    assert updated in (PAST, now)
    return created == PAST, updated == now


@pytest.mark.row("R5")
@pytest.mark.parametrize("role", ["todo_app", None])
@pytest.mark.parametrize(("table", "name", "new"), CHANGES)
def test_a_real_change_moves_it(
    owner: Connection, table: str, name: str, new: Any, role: str | None
) -> None:
    if role:
        act_as(owner, role, "alice")
    assert times(owner, table) == (True, False)
    owner.execute(f"update {table} set {name} = %s where id = 9001", [new])
    assert times(owner, table) == (True, True)
    owner.execute("reset role")
    assert times(owner, table, 9101) == (True, False)


@pytest.mark.row("R5")
@pytest.mark.parametrize(("table", "name", "new"), CHANGES)
def test_an_empty_update_does_not(owner: Connection, table: str, name: str, new: Any) -> None:
    owner.execute(f"update {table} set {name} = {name}")
    assert times(owner, table) == (True, False)


@pytest.mark.row("R5")
def test_a_change_back_to_null_moves_it(owner: Connection) -> None:
    owner.execute("alter table tasks disable trigger tasks_set_updated_at")
    owner.execute("update tasks set due_date = '2030-01-01', description = 'x'")
    owner.execute("alter table tasks enable trigger tasks_set_updated_at")
    owner.execute("update tasks set due_date = null where id = 9001")
    owner.execute("update tasks set description = null where id = 9002")
    assert times(owner, "tasks", 9001) == (True, True)
    assert times(owner, "tasks", 9002) == (True, True)
    assert times(owner, "tasks", 9101) == (True, False)


@pytest.mark.row("R5")
def test_the_triggers_name_every_column_that_can_change(owner: Connection) -> None:
    tables = column(
        owner,
        """
        select attrelid::regclass::text from pg_attribute
        where attname = 'updated_at' and attrelid::regclass::text in (
            select oid::regclass::text from pg_class
            where relkind = 'r' and relnamespace = 'public'::regnamespace
        )
        """,
    )
    assert set(tables) == {"tasks", "conversations"}
    for table in tables:
        mutable = column(
            owner,
            """
            select attname from pg_attribute
            left join pg_index on indrelid = attrelid and indisprimary and attnum = any (indkey)
            where
                attrelid = %s::regclass and attnum > 0 and not attisdropped
                and attgenerated = '' and indexrelid is null
                and attname not in ('created_at', 'updated_at')
            """,
            [table],
        )
        (trigger,) = column(
            owner,
            """
            select pg_get_triggerdef(oid) from pg_trigger
            where tgrelid = %s::regclass and tgfoid = 'set_updated_at'::regproc
            """,
            [table],
        )
        assert "BEFORE UPDATE ON" in trigger  # without OF: whichever statement changes the column
        for row in ("old", "new"):
            named = set(re.findall(rf"\b{row}\.(\w+)", trigger))
            assert named - {"updated_at"} == set(mutable)


FORGERIES = [
    "insert into tasks (user_id, title, created_at) values ('alice', 'x', '1999-01-01')",
    "insert into tasks (user_id, title, updated_at) values ('alice', 'x', '1999-01-01')",
    "insert into tasks (user_id, title, id) overriding system value values ('alice', 'x', 1)",
    "insert into tasks (user_id, title, id) values ('alice', 'x', default)",
    "insert into tasks (user_id, title, completed) values ('alice', 'x', default)",
    "insert into conversations (user_id, created_at) values ('alice', '1999-01-01')",
    "insert into conversations (user_id, updated_at) values ('alice', '1999-01-01')",
    "insert into conversations (user_id, id) overriding system value values ('alice', 1)",
    """
    insert into messages (user_id, conversation_id, role, content, created_at)
    values ('alice', 9001, 'user', 'x', '1999-01-01')
    """,
    """
    insert into messages (user_id, conversation_id, role, content, id) overriding system value
    values ('alice', 9001, 'user', 'x', 1)
    """,
    "update tasks set id = default",
    "update tasks set user_id = 'alice'",
    "update tasks set created_at = '1999-01-01'",
    "update tasks set updated_at = '1999-01-01'",
    "update tasks set completed = default",
    "update tasks set priority_rank = default",
    "update conversations set id = default",
    "update conversations set created_at = '1999-01-01'",
    "update messages set content = 'x'",
    "update messages set created_at = '1999-01-01'",
    "update task_search set task_id = 1",
    "delete from task_search",
]


@pytest.mark.row("R5", "R7")
@pytest.mark.parametrize("statement", FORGERIES)
def test_the_application_forges_nothing(owner: Connection, statement: str) -> None:
    act_as(owner, "todo_app", "alice")
    with refused(owner, INSUFFICIENT_PRIVILEGE):
        owner.execute(statement)


@pytest.mark.row("R2")
@pytest.mark.parametrize(("name", "new"), [("completed", "true"), ("priority_rank", "3")])
def test_not_even_the_owner_writes_a_generated_column(
    owner: Connection, name: str, new: str
) -> None:
    with refused(owner, GENERATED_ALWAYS):
        owner.execute(f"update tasks set {name} = {new}")


@pytest.mark.row("R5")
@pytest.mark.parametrize("when", ["1999-01-01", "2999-01-01", "infinity"])
def test_a_forged_activity_becomes_now(owner: Connection, when: str) -> None:
    act_as(owner, "todo_app", "alice")
    owner.execute("update conversations set updated_at = %s", [when])
    assert times(owner, "conversations") == (True, True)


MESSAGE = """
insert into messages (user_id, conversation_id, role, content)
select user_id, conversation_id, role, content from messages where user_id = 'alice'
"""


@pytest.mark.row("R3", "R5")
@pytest.mark.parametrize("role", ["todo_app", None])
def test_a_new_message_moves_its_conversation(owner: Connection, role: str | None) -> None:
    if role:
        act_as(owner, role, "alice")
    assert owner.execute(MESSAGE).rowcount == 2
    assert times(owner, "conversations") == (True, True)
    owner.execute("reset role")
    assert times(owner, "conversations", 9101) == (True, False)


@pytest.mark.row("R3")
def test_many_messages_write_their_conversation_once(owner: Connection) -> None:
    owner.execute(MESSAGE)
    place = value(owner, "select ctid::text from conversations where id = 9001")
    owner.execute(MESSAGE)
    assert value(owner, "select ctid::text from conversations where id = 9001") == place


@pytest.mark.row("R3")
def test_a_late_transaction_does_not_move_activity_back(owner: Connection) -> None:
    owner.execute("alter table conversations disable trigger conversations_set_updated_at")
    owner.execute("update conversations set updated_at = now() + interval '1 minute'")
    owner.execute("alter table conversations enable trigger conversations_set_updated_at")
    owner.execute(MESSAGE)
    assert value(owner, "select updated_at > now() from conversations where id = 9001")
