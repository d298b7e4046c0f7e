"""The database keeps users apart, whatever the application's statements forget."""

from __future__ import annotations

import pytest

from tests.schema.acting import Connection, act_as, column, refused, value

INSUFFICIENT_PRIVILEGE = "42501"
FOREIGN_KEY_VIOLATION = "23503"

TENANT = ["tasks", "task_search", "conversations", "messages"]
KEY = {"task_search": "task_id"}

INSERTS = {
    "tasks": "insert into tasks (user_id, title) values (%s, 'x')",
    "task_search": "insert into task_search (user_id, task_id, search) values (%s, 9101, '')",
    "conversations": "insert into conversations (user_id) values (%s)",
    "messages": """
        insert into messages (user_id, conversation_id, role, content)
        values (%s, 9101, 'user', 'x')
    """,
}
UPDATES = {
    "tasks": "update tasks set title = 'x'",
    "task_search": "update task_search set search = ''",
    "conversations": "update conversations set title = 'x'",
}


@pytest.mark.row("R7")
@pytest.mark.parametrize("table", TENANT)
def test_only_ones_own_rows_are_there(owner: Connection, table: str) -> None:
    act_as(owner, "todo_app", "alice")
    assert set(column(owner, f"select user_id from {table}")) == {"alice"}
    key = KEY.get(table, "id")
    assert column(owner, f"select {key} from {table} where user_id = 'bob'") == []
    assert column(owner, f"select {key} from {table} where {key} = 9101") == []
    act_as(owner, "todo_app", "bob")
    assert set(column(owner, f"select user_id from {table}")) == {"bob"}


@pytest.mark.row("R7")
@pytest.mark.parametrize("setting", [None, "", "nobody"])
@pytest.mark.parametrize("table", [*TENANT, '"user"'])
def test_without_a_context_nothing_is_there(
    owner: Connection, table: str, setting: str | None
) -> None:
    act_as(owner, "todo_app")
    if setting is not None:
        owner.execute("select set_config('app.user_id', %s, true)", [setting])
    assert column(owner, f"select 1 from {table}") == []


@pytest.mark.row("R7")
@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize("table", UPDATES)
def test_other_rows_are_not_updated(owner: Connection, table: str, user: str | None) -> None:
    act_as(owner, "todo_app", user)
    before = value(owner, f"select count(*) from {table}")
    assert owner.execute(UPDATES[table]).rowcount == before
    assert owner.execute(f"{UPDATES[table]} where user_id = 'bob'").rowcount == 0
    owner.execute("reset role")
    # Bob's rows are where they were: an update writes a new version.
    changed = f"select count(*) from {table} where user_id = 'bob' and cmax::text::int > %s"
    assert value(owner, f"select count(*) from {table} where user_id = 'bob'")
    last = value(owner, f"select max(cmin::text::int) from {table} where user_id = 'bob'")
    assert value(owner, changed, [last]) == 0


@pytest.mark.row("R7")
@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize("table", ["tasks", "conversations", "messages"])
def test_other_rows_are_not_deleted(owner: Connection, table: str, user: str | None) -> None:
    bobs = value(owner, f"select count(*) from {table} where user_id = 'bob'")
    act_as(owner, "todo_app", user)
    assert owner.execute(f"delete from {table} where user_id = 'bob'").rowcount == 0
    owner.execute(f"delete from {table}")
    owner.execute("reset role")
    assert value(owner, f"select count(*) from {table} where user_id = 'bob'") == bobs


@pytest.mark.row("R7")
@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize("table", TENANT)
def test_nothing_is_inserted_for_another(owner: Connection, table: str, user: str | None) -> None:
    act_as(owner, "todo_app", user)
    with refused(owner, INSUFFICIENT_PRIVILEGE):
        owner.execute(INSERTS[table], ["bob"])


@pytest.mark.row("R7")
@pytest.mark.parametrize("table", TENANT)
def test_nothing_is_moved_to_another(owner: Connection, table: str) -> None:
    statement = f"update {table} set user_id = 'bob'"
    with owner.transaction(force_rollback=True):
        act_as(owner, "todo_app", "alice")
        with refused(owner, INSUFFICIENT_PRIVILEGE):
            owner.execute(statement)
    # The policy alone refuses it too, should the privilege ever be granted.
    owner.execute(f"grant update (user_id) on {table} to todo_app")
    act_as(owner, "todo_app", "alice")
    with pytest.raises(Exception, match="row-level security"):
        owner.execute(statement)


@pytest.mark.row("R3", "R7")
def test_no_message_enters_anothers_conversation(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    with refused(owner, FOREIGN_KEY_VIOLATION, "messages_conversation_id_fkey"):
        owner.execute(INSERTS["messages"], ["alice"])
    owner.execute("reset role")
    assert column(owner, "select id from messages where conversation_id = 9101") == [9101]


@pytest.mark.row("R7")
def test_a_user_sees_its_own_account_only(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    assert column(owner, """select email from "user" """) == ["alice@example.com"]


@pytest.mark.row("R7")
@pytest.mark.parametrize("role", ["todo_auth", "todo_readonly"])
def test_other_roles_see_every_account(owner: Connection, role: str) -> None:
    act_as(owner, role)
    assert column(owner, """select id from "user" order by id""") == ["alice", "bob"]


@pytest.mark.row("R7")
@pytest.mark.parametrize("table", TENANT)
def test_readers_see_every_tenant(owner: Connection, table: str) -> None:
    act_as(owner, "todo_readonly")
    assert set(column(owner, f"select user_id from {table}")) == {"alice", "bob"}


@pytest.mark.row("R7")
@pytest.mark.parametrize("table", [*TENANT, '"user"'])
def test_an_owner_without_bypassrls_sees_nothing(owner: Connection, table: str) -> None:
    owner.execute(
        """
        create role plain_owner;
        grant plain_owner to current_user with inherit false, set true;
        grant create on schema public to plain_owner;
        """
    )
    owner.execute(f"alter table {table} owner to plain_owner")
    owner.execute("grant execute on function set_tenant(text) to plain_owner")
    act_as(owner, "plain_owner", "alice")
    assert column(owner, f"select 1 from {table}") == []


@pytest.mark.row("R7")
def test_every_tenant_table_has_forced_row_security(owner: Connection) -> None:
    tables = owner.execute(
        """
        select relname, relrowsecurity and relforcerowsecurity from pg_class
        where relkind = 'r' and relnamespace = 'public'::regnamespace and (
            relname = 'user' or exists (
                select from pg_attribute where attrelid = pg_class.oid and attname = 'user_id'
            )
        )
        """
    ).fetchall()
    assert dict(tables) == dict.fromkeys([*TENANT, "user"], True)
