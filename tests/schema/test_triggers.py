"""updated_at moves on every real change and no other; every task has its search row."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.errors import InsufficientPrivilege

from scripts.address import Address
from scripts.database import connect
from tests.schema.acting import PAST, ROWS, Connection, act_as, column, refused, value

ROLES = pytest.mark.parametrize("role", ["todo_app", "none"])
CHANGES = [
    ("tasks", 9001, "title", "x"),
    ("tasks", 9001, "description", "x"),
    ("tasks", 9002, "description", None),
    ("tasks", 9001, "status", "in_progress"),
    ("tasks", 9001, "priority", "high"),
    ("tasks", 9001, "due_date", "2030-01-01"),
    ("tasks", 9002, "due_date", None),
    ("tasks", 9001, "tags", ["x"]),
    ("conversations", 9001, "title", "x"),
    ("conversations", 9001, "title", None),
]
MESSAGE = """
insert into messages (user_id, conversation_id, role, content)
select user_id, conversation_id, role, content from messages where user_id = 'alice'
"""
WORDS = "select words from task_search where task_id = 9001"
PLACE = "select ctid::text from task_search where task_id = 9001"


def moved(connection: Connection, table: str, id_: int = 9001) -> bool:
    """Return whether updated_at is now() rather than PAST; created_at always is PAST."""
    row = connection.execute(
        f"select created_at, updated_at, now() from {table} where id = %s", [id_]
    ).fetchone()
    assert row is not None
    created, updated, now = row
    assert created == PAST
    assert updated in (PAST, now)
    return bool(updated == now)


@pytest.mark.row("R5")
@ROLES
@pytest.mark.parametrize("change", CHANGES)
def test_updated_at_moves_on_a_real_change_and_on_no_empty_one(
    owner: Connection, change: tuple[str, int, str, Any], role: str
) -> None:
    table, id_, name, new = change
    act_as(owner, role, "alice")
    owner.execute(f"update {table} set {name} = {name}")
    assert not moved(owner, table, id_)
    owner.execute(f"update {table} set {name} = %s where id = %s", [new, id_])
    assert moved(owner, table, id_)
    act_as(owner, "none")
    assert not moved(owner, table, 9101)


@pytest.mark.row("R5")
def test_every_column_that_can_change_is_among_the_changes(empty: Connection) -> None:
    mutable = empty.execute(
        """
        select relname, attname from pg_attribute
        join pg_class on pg_class.oid = attrelid
        left join pg_constraint on conrelid = attrelid and contype = 'p' and attnum = any (conkey)
        where
            relnamespace = 'public'::regnamespace and relkind = 'r'
            and attnum > 0 and not attisdropped and attgenerated = '' and conname is null
            and attname not in ('created_at', 'updated_at')
            and exists (
                select from pg_attribute where attrelid = pg_class.oid and attname = 'updated_at'
            )
        """
    )
    assert set(mutable) == {(table, name) for table, _, name, _ in CHANGES}


@pytest.mark.row("R2")
def test_generated_columns_follow_status_and_priority(owner: Connection) -> None:
    derived = owner.execute(
        """
        insert into tasks (user_id, title, status, priority) values
            ('alice', 'x', 'pending', 'low'),
            ('alice', 'x', 'in_progress', 'medium'),
            ('alice', 'x', 'completed', 'high')
        returning completed, priority_rank
        """
    ).fetchall()
    assert derived == [(False, 1), (False, 2), (True, 3)]


@pytest.mark.row("R5", "R7")
@pytest.mark.parametrize(
    "statement",
    [
        "insert into tasks (user_id, title, created_at) values ('alice', 'x', '1999-01-01')",
        "insert into tasks (user_id, title, id) overriding system value values ('alice', 'x', 1)",
        "update tasks set updated_at = '1999-01-01'",
        "update messages set content = 'x'",
        "delete from task_search",
    ],
)
def test_the_application_forges_nothing(owner: Connection, statement: str) -> None:
    act_as(owner, "todo_app", "alice")
    with refused(owner, InsufficientPrivilege):
        owner.execute(statement)


@pytest.mark.row("R5")
@pytest.mark.parametrize("when", ["1999-01-01", "infinity"])
def test_a_forged_activity_becomes_now(owner: Connection, when: str) -> None:
    act_as(owner, "todo_app", "alice")
    owner.execute("update conversations set updated_at = %s", [when])
    assert moved(owner, "conversations")


@pytest.mark.row("R3", "R5")
@ROLES
def test_new_messages_move_their_conversation_once(owner: Connection, role: str) -> None:
    place = "select ctid::text from conversations where id = 9001"
    act_as(owner, role, "alice")
    assert owner.execute(MESSAGE).rowcount == 2
    assert moved(owner, "conversations")
    before = value(owner, place)
    owner.execute(MESSAGE)
    assert value(owner, place) == before
    act_as(owner, "none")
    assert not moved(owner, "conversations", 9101)


@pytest.mark.row("R3")
def test_a_late_transaction_does_not_move_activity_back(owner: Connection) -> None:
    owner.execute("alter table conversations disable trigger conversations_set_updated_at")
    owner.execute("update conversations set updated_at = now() + interval '1 minute'")
    owner.execute("alter table conversations enable trigger conversations_set_updated_at")
    owner.execute(MESSAGE)
    assert value(owner, "select updated_at > now() from conversations where id = 9001")


@pytest.mark.row("R4", "R7")
@ROLES
def test_search_words_follow_title_and_description(owner: Connection, role: str) -> None:
    act_as(owner, role, "alice")
    assert value(owner, WORDS) == " buy milk"
    for change, words in (
        ("description = 'from the cows'", " buy cow milk"),
        ("title = 'Marketing'", " cow mark"),
        ("description = null", " mark"),
    ):
        owner.execute(f"update tasks set {change} where id = 9001")
        assert value(owner, WORDS) == words
    act_as(owner, "none")
    others = column(owner, "select words from task_search where user_id = 'bob' order by 1")
    assert others == [" book read", " book writ"]


@pytest.mark.row("R4")
@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed', priority = 'high', due_date = '2030-01-01', tags = '{x}'",
        "title = title, description = description",
        "title = 'To buy the milk!'",
    ],
)
def test_search_words_are_left_alone_by_other_changes(owner: Connection, change: str) -> None:
    before = value(owner, PLACE)
    owner.execute(f"update tasks set {change} where id = 9001")
    assert value(owner, PLACE) == before


@pytest.mark.row("R4")
@pytest.mark.parametrize(
    "text", ["\u00e9t\u00e9 " * 200, "\U0001f600" * 1000, "<b>&amp;' \\ :*|!()"]
)
def test_no_text_is_refused_for_its_words(owner: Connection, text: str) -> None:
    owner.execute("update tasks set description = %s where id = 9001", [text])
    assert value(owner, "select count(*) from task_search where task_id = 9001") == 1


@pytest.mark.row("R5")
def test_updated_at_never_goes_back(migrated: Address) -> None:
    """A transaction that began before another's change and came after it."""
    with connect(migrated, purpose="a") as slow, connect(migrated, purpose="b") as quick:
        slow.execute(ROWS)
        with slow.transaction():
            slow.execute("select now()")
            quick.execute("update tasks set title = 'quick' where id = 9001")
            slow.execute("update tasks set title = 'slow' where id = 9001")
            times = "select updated_at, now() from tasks where id = 9001"
            updated, began = slow.execute(times).fetchone() or (None, None)
            assert updated > began
