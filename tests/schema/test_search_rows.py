"""Every task has its search row, which only a new text rewrites."""

from __future__ import annotations

import pytest

from tests.schema.acting import Connection, act_as, value

VECTOR = "select search::text from task_search where task_id = 9001"
PLACE = "select ctid::text from task_search where task_id = 9001"


@pytest.mark.row("R4", "R7")
@pytest.mark.parametrize("role", ["todo_app", None])
def test_follows_title_and_description(owner: Connection, role: str | None) -> None:
    if role:
        act_as(owner, role, "alice")
    assert value(owner, VECTOR) == "'buy':1A 'milk':2A"
    owner.execute("update tasks set description = 'from the cows' where id = 9001")
    assert value(owner, VECTOR) == "'buy':1A 'cow':5B 'milk':2A"
    owner.execute("update tasks set title = 'Selling' where id = 9001")
    assert value(owner, VECTOR) == "'cow':4B 'sell':1A"
    owner.execute("update tasks set description = null where id = 9001")
    assert value(owner, VECTOR) == "'sell':1A"
    owner.execute("reset role")
    assert value(owner, "select search::text from task_search where task_id = 9101") == (
        "'book':3A 'read':1A"
    )


@pytest.mark.row("R4")
def test_comes_with_the_task(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    task = value(
        owner,
        "insert into tasks (user_id, title, description) values ('alice', 'the', 'x') returning id",
    )
    vector = "select search::text from task_search where (user_id, task_id) = ('alice', %s)"
    assert value(owner, vector, [task]) == "'x':1B"


@pytest.mark.row("R4")
@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed'",
        "priority = 'high', due_date = '2030-01-01', tags = '{x}'",
        "title = title, description = description",
    ],
)
def test_is_left_alone_by_other_changes(owner: Connection, change: str) -> None:
    before = value(owner, PLACE)
    owner.execute(f"update tasks set {change} where id = 9001")
    assert value(owner, PLACE) == before


@pytest.mark.row("R4")
@pytest.mark.parametrize("text", ["\u00e9t\u00e9 " * 200, "x" * 1000, "<b>&amp;' \\ :*|!()"])
def test_no_text_makes_it_fail(owner: Connection, text: str) -> None:
    owner.execute("update tasks set description = %s where id = 9001", [text[:1000]])
    assert value(owner, "select count(*) from task_search where task_id = 9001") == 1
