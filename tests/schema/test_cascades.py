"""Deleting a parent removes everything of its own and nothing else."""

from __future__ import annotations

import pytest

from tests.schema.acting import Connection, act_as, column

TENANT = ["tasks", "task_search", "conversations", "messages"]


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many rows each table has of each user."""
    owners = dict.fromkeys(TENANT, "user_id")
    owners |= {"session": '"userId"', "account": '"userId"', '"user"': "id"}
    return {
        table: dict(
            connection.execute(f"select {name}, count(*) from {table} group by 1").fetchall()
        )
        for table, name in owners.items()
    }


@pytest.mark.row("R1", "R4", "R7")
@pytest.mark.parametrize("role", ["todo_auth", None])
def test_deleting_a_user_removes_all_that_is_theirs(owner: Connection, role: str | None) -> None:
    before = counts(owner)
    assert all(set(users) == {"alice", "bob"} for users in before.values())
    if role:
        act_as(owner, role)
    # As Better Auth does it; the cascade removes the rest from tables the role may not touch.
    owner.execute("""delete from session where "userId" = 'alice'""")
    assert owner.execute("""delete from "user" where id = 'alice'""").rowcount == 1
    owner.execute("reset role")
    assert counts(owner) == {table: {"bob": users["bob"]} for table, users in before.items()}
    assert column(owner, "select id from verification") == ["verification"]
    assert column(owner, "select id from jwks") == ["key"]


@pytest.mark.row("R4")
@pytest.mark.parametrize("role", ["todo_app", None])
@pytest.mark.parametrize(
    ("parent", "children"), [("tasks", ["task_search"]), ("conversations", ["messages"])]
)
def test_deleting_a_parent_removes_its_children(
    owner: Connection, parent: str, children: list[str], role: str | None
) -> None:
    before = counts(owner)
    if role:
        act_as(owner, role, "alice")
    assert owner.execute(f"delete from {parent} where id = 9001").rowcount == 1
    owner.execute("reset role")
    after = counts(owner)
    assert after[parent].get("alice", 0) == before[parent]["alice"] - 1
    for child in children:
        assert after[child].get("alice", 0) < before[child]["alice"]
    unchanged = set(before) - {parent, *children}
    assert {table: after[table] for table in unchanged} == {t: before[t] for t in unchanged}
    assert all(after[table]["bob"] == before[table]["bob"] for table in before)


@pytest.mark.row("R4")
def test_every_foreign_key_cascades(owner: Connection) -> None:
    others = column(
        owner,
        """
        select conname from pg_constraint
        where
            contype = 'f' and connamespace = 'public'::regnamespace
            and (confdeltype <> 'c' or condeferrable)
        """,
    )
    assert others == []


@pytest.mark.row("R6")
def test_every_foreign_key_leads_an_index(owner: Connection) -> None:
    without = column(
        owner,
        """
        select conname from pg_constraint
        where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
            select from pg_index
            where
                indrelid = conrelid and indpred is null and indisvalid
                and (indkey::int2[])[0:cardinality(conkey) - 1] = conkey
        )
        """,
    )
    assert without == []
