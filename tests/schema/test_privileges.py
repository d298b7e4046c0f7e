"""Each role has the privileges it needs, and no other."""

from __future__ import annotations

import pytest

from tests.schema.acting import Connection, act_as, column, refused

INSUFFICIENT_PRIVILEGE = "42501"

# What Better Auth's flows need, as its documentation and its statements have it; whole tables,
# since it sends `select *` and `returning *`.
AUTH = {
    "user": "SELECT INSERT UPDATE DELETE",
    "session": "SELECT INSERT UPDATE DELETE",
    "account": "SELECT INSERT UPDATE DELETE",
    "verification": "SELECT INSERT DELETE",
    "jwks": "SELECT INSERT",
}
READONLY = dict.fromkeys(["user", "tasks", "task_search", "conversations", "messages"], "SELECT")
APPLICATION = {
    "user": "SELECT",
    "tasks": "SELECT DELETE",
    "task_search": "SELECT",
    "conversations": "SELECT DELETE",
    "messages": "SELECT DELETE",
}
APPLICATION_COLUMNS = {
    ("tasks", "INSERT"): "user_id title description status priority due_date tags",
    ("tasks", "UPDATE"): "title description status priority due_date tags",
    ("task_search", "INSERT"): "user_id task_id search",
    ("task_search", "UPDATE"): "search",
    ("conversations", "INSERT"): "user_id title",
    ("conversations", "UPDATE"): "title updated_at",
    ("messages", "INSERT"): "user_id conversation_id role content",
}
TABLES = {
    (role, table, privilege)
    for role, tables in (
        ("todo_auth", AUTH),
        ("todo_readonly", READONLY),
        ("todo_app", APPLICATION),
    )
    for table, privileges in tables.items()
    for privilege in privileges.split()
}
COLUMNS = {
    ("todo_app", table, name, privilege)
    for (table, privilege), names in APPLICATION_COLUMNS.items()
    for name in names.split()
}
FUNCTIONS = {
    ("todo_app", "schema_version"),
    ("todo_auth", "schema_version"),
    ("todo_readonly", "schema_version"),
    ("todo_app", "set_tenant"),
    ("todo_app", "tags_are_valid"),
}
POLICIES = {
    ("user", "user_self_select", "SELECT", "todo_app"),
    ("user", "user_auth_all", "ALL", "todo_auth"),
    ("user", "user_readonly_select", "SELECT", "todo_readonly"),
    *(
        (table, f"{table}_{name}", command, role)
        for table in ("tasks", "task_search", "conversations", "messages")
        for name, command, role in (
            ("owner_all", "ALL", "todo_app"),
            ("readonly_select", "SELECT", "todo_readonly"),
        )
    ),
}


@pytest.mark.row("R7")
def test_privileges_on_tables_and_sequences(owner: Connection) -> None:
    granted = owner.execute(
        """
        select
            case grantee when 0 then 'public' else grantee::regrole::text end,
            relname,
            privilege_type
        from pg_class
        cross join aclexplode(relacl)
        where
            relnamespace = 'public'::regnamespace and grantee <> relowner
            and relname not like '%yoyo%' and relname <> 'migration_history'
        """
    )
    assert set(granted) == TABLES


@pytest.mark.row("R5", "R7")
def test_privileges_on_columns(owner: Connection) -> None:
    granted = owner.execute(
        """
        select
            case grantee when 0 then 'public' else grantee::regrole::text end,
            relname,
            attname,
            privilege_type
        from pg_class
        join pg_attribute on attrelid = pg_class.oid
        cross join aclexplode(attacl)
        where relnamespace = 'public'::regnamespace
        """
    )
    assert set(granted) == COLUMNS


@pytest.mark.row("R7")
def test_privileges_on_functions(owner: Connection) -> None:
    granted = owner.execute(
        """
        select case grantee when 0 then 'public' else grantee::regrole::text end, proname
        from pg_proc
        cross join aclexplode(coalesce(proacl, acldefault('f', proowner)))
        where pronamespace = 'public'::regnamespace and grantee <> proowner
        """
    )
    assert set(granted) == FUNCTIONS


@pytest.mark.row("R7")
def test_policies(owner: Connection) -> None:
    policies = owner.execute(
        """
        select tablename, policyname, cmd, array_to_string(roles, ' ') from pg_policies
        where schemaname = 'public'
        """
    )
    assert set(policies) == POLICIES


@pytest.mark.row("R7")
def test_the_roles_have_no_powers(owner: Connection) -> None:
    powers = owner.execute(
        """
        select rolname from pg_roles
        where
            rolname in ('todo_app', 'todo_auth', 'todo_readonly')
            and not (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
        order by rolname
        """
    ).fetchall()
    assert powers == [("todo_app",), ("todo_auth",), ("todo_readonly",)]


@pytest.mark.row("R7")
@pytest.mark.parametrize("role", ["todo_app", "todo_auth", "todo_readonly"])
@pytest.mark.parametrize(
    "table",
    [
        "user",
        "session",
        "account",
        "verification",
        "jwks",
        "tasks",
        "task_search",
        "conversations",
        "messages",
    ],
)
def test_reading(owner: Connection, role: str, table: str) -> None:
    act_as(owner, role)
    if (role, table, "SELECT") in TABLES:
        owner.execute(f'select * from "{table}"')
    else:
        with refused(owner, INSUFFICIENT_PRIVILEGE):
            owner.execute(f'select from "{table}"')


@pytest.mark.row("R7")
@pytest.mark.parametrize(
    "statement",
    [
        """update "user" set name = 'x'""",
        """insert into "user" (id, name, email) values ('x', 'x', 'x@y')""",
        """delete from "user" where id = 'alice'""",
        "truncate tasks",
        "create table mine (id int)",
    ],
)
@pytest.mark.parametrize("role", ["todo_app", "todo_readonly"])
def test_what_belongs_to_others_is_refused(owner: Connection, role: str, statement: str) -> None:
    act_as(owner, role)
    with refused(owner, INSUFFICIENT_PRIVILEGE):
        owner.execute(statement)


@pytest.mark.row("R1", "R7")
@pytest.mark.parametrize(
    "statement",
    [
        """
        insert into "user" (id, name, email) values ('carol', 'Carol', 'carol@example.com')
        returning *
        """,
        """select * from "user" where email = 'bob@example.com'""",
        """update "user" set name = 'x' where id = 'alice' returning *""",
        """
        insert into session (id, "expiresAt", token, "updatedAt", "userId")
        values ('s', now(), 't', now(), 'alice') returning *
        """,
        """update session set "expiresAt" = now() where token = 'token-a' returning *""",
        """delete from session where token = 'token-a'""",
        """
        insert into account (id, "accountId", "providerId", "userId", "updatedAt")
        values ('a', '1', 'github', 'alice', now()) returning *
        """,
        """update account set password = 'x' where "userId" = 'alice' returning *""",
        """delete from account where "userId" = 'alice'""",
        """
        insert into verification (id, identifier, value, "expiresAt")
        values ('v', 'i', 'x', now()) returning *
        """,
        """select * from verification where identifier = 'reset:alice' order by "createdAt" desc""",
        """delete from verification where "expiresAt" < '2031-01-01'""",
        """insert into jwks (id, "publicKey", "privateKey") values ('j', '', '') returning *""",
        "select * from jwks",
        """delete from "user" where id = 'alice'""",
    ],
)
def test_what_better_auth_sends_is_allowed(owner: Connection, statement: str) -> None:
    act_as(owner, "todo_auth")
    assert owner.execute(statement).rowcount == 1


@pytest.mark.row("R7")
def test_the_application_role_has_its_limits(owner: Connection) -> None:
    limits = column(owner, "select unnest(rolconfig) from pg_roles where rolname = 'todo_app'")
    assert {
        "statement_timeout=30s",
        "lock_timeout=5s",
        "idle_in_transaction_session_timeout=30s",
    } <= set(limits)
