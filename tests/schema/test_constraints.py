"""Every rule of the data is in the database: what it admits, and by which name it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from psycopg.errors import CheckViolation, ForeignKeyViolation, UniqueViolation

from tests.schema.acting import Connection, column, refused

pytestmark = pytest.mark.row("R2", "R3", "R4")

# Every character, and only those, that str.strip() removes.
BLANK = [chr(code) for code in range(0x110000) if not chr(code).strip()]
# The one row of each table that a case changes.
ROW = "id::text in ('9001', 'carol', 'session-a', 'account-a', 'verification', 'key')"
ID = (["x", "x" * 255], ["", "x" * 256])
NOT_EMPTY = (["x", "x" * 10000], [""])

# constraint: column, then what is admitted at its edges, then what is refused
CHECKS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "tasks_title_length_check": ("tasks.title", ["x", "x" * 200, "\U0001f600" * 200], ["x" * 201]),
    "tasks_title_blank_check": ("tasks.title", [" x ", "\u200b"], ["", "".join(BLANK), " " * 200]),
    "tasks_description_length_check": (
        "tasks.description",
        [None, "", " ", "x" * 1000],
        ["x" * 1001],
    ),
    "tasks_status_check": (
        "tasks.status",
        ["pending", "in_progress", "completed"],
        ["", "Pending", "done"],
    ),
    "tasks_priority_check": ("tasks.priority", ["low", "medium", "high"], ["", "High", "urgent"]),
    "tasks_due_date_check": (
        "tasks.due_date",
        [None, "0001-01-01", "9999-12-31"],
        ["0001-12-31 BC", "10000-01-01", "infinity", "-infinity"],
    ),
    "tasks_tags_count_check": (
        "tasks.tags",
        [[], [f"tag {n}" for n in range(20)]],
        [
            [f"tag {n}" for n in range(21)],
            ["x"] * 21,
            [[f"{m} {n}" for n in range(7)] for m in range(3)],
        ],
    ),
    "tasks_tags_items_check": (
        "tasks.tags",
        [["x" * 50], ["a", "A"], ["a", " a"], ["NULL", "{}", ","], ["\u200b"]],
        [
            ["a", None],
            [None],
            [""],
            ["a", "".join(BLANK)],
            ["x" * 51],
            ["a", "b", "a"],
            [["a", "b"], ["a", "b"]],
        ],
    ),
    "tasks_tags_shape_check": (
        "tasks.tags",
        ["{}", "[1:1]={x}"],
        [[["a", "b"], ["c", "d"]], [[["a"]]], "[0:0]={a}", "[2:3]={a,b}", "[-1:0]={a,b}"],
    ),
    "conversations_title_length_check": (
        "conversations.title",
        [None, "x", "x" * 200],
        ["x" * 201],
    ),
    "conversations_title_blank_check": ("conversations.title", [" x "], ["", "".join(BLANK)]),
    "messages_role_check": ("messages.role", ["user", "assistant"], ["", "system", "User"]),
    "messages_content_length_check": (
        "messages.content",
        ["x", " ", "x" * 10000],
        ["", "x" * 10001],
    ),
    "user_id_length_check": ('"user".id', *ID),
    "user_name_length_check": ('"user".name', ["", "x" * 255], ["x" * 256]),
    "user_email_length_check": ('"user".email', ["a@b", "x" * 255], ["", "x" * 256]),
    "user_email_lower_check": (
        '"user".email',
        ["\u00e9@example.com"],
        ["Carol@example.com", "carol@Example.com"],
    ),
    "session_id_length_check": ("session.id", *ID),
    "session_token_length_check": ("session.token", *NOT_EMPTY),
    "account_id_length_check": ("account.id", *ID),
    "account_account_id_length_check": ('account."accountId"', ["x" * 500], [""]),
    "account_provider_id_length_check": ('account."providerId"', ["x" * 500], [""]),
    "verification_id_length_check": ("verification.id", *ID),
    "verification_identifier_length_check": ("verification.identifier", ["x" * 500], [""]),
    "jwks_id_length_check": ("jwks.id", *ID),
}


@pytest.mark.parametrize("constraint", CHECKS)
def test_a_check_at_its_edges(owner: Connection, constraint: str) -> None:
    place, admitted, refusals = CHECKS[constraint]
    table, name = place.split(".")
    owner.execute("""insert into "user" (id, name, email) values ('carol', 'Carol', 'c@d')""")
    update = f"update {table} set {name} = %s where {ROW}"
    for item in admitted:
        with owner.transaction(force_rollback=True):
            assert owner.execute(update, [item]).rowcount == 1
    for item in refusals:
        with refused(owner, CheckViolation, constraint):
            owner.execute(update, [item])


def test_every_check_has_its_edges(empty: Connection) -> None:
    checks = column(
        empty,
        """
        select conname from pg_constraint
        where
            contype = 'c' and connamespace = 'public'::regnamespace
            and conname not like 'migration_history%' -- the runner's
        """,
    )
    assert set(checks) == set(CHECKS)


def test_blank_is_what_python_strips_wherever_it_is_written(empty: Connection) -> None:
    texts = column(
        empty,
        """
        select pg_get_constraintdef(oid) from pg_constraint where conname like '%blank_check'
        union all
        select pg_get_functiondef('tags_are_valid'::regproc)
        """,
    )
    lists = [found for text in texts for found in re.findall(r"\[\^.*?\]", text)]
    assert len(lists) == 3
    for characters in set(lists):
        blank = column(
            empty,
            """
            select chr(code) from generate_series(1, x'10ffff'::int) as code
            where code not between x'd800'::int and x'dfff'::int and chr(code) !~ %s
            """,
            [characters],
        )
        assert blank == BLANK


@pytest.mark.row("R1")
@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("""insert into "user" (id, name, email) values ('bob', '', 'x')""", "user_pkey"),
        ("""update "user" set email = 'alice@example.com' where id = 'bob'""", "user_email_key"),
        ("update session set token = 'token-a' where id = 'session-b'", "session_token_key"),
        (
            """update account set "accountId" = 'alice' where id = 'account-b'""",
            "account_provider_id_account_id_key",
        ),
        (
            """insert into jwks (id, "publicKey", "privateKey") values ('key', '', '')""",
            "jwks_pkey",
        ),
    ],
)
def test_unique(owner: Connection, statement: str, constraint: str) -> None:
    with refused(owner, UniqueViolation, constraint):
        owner.execute(statement)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("insert into tasks (user_id, title) values ('nobody', 'x')", "tasks_user_id_fkey"),
        ("update task_search set task_id = -task_id", "task_search_task_id_fkey"),
        ("insert into conversations (user_id) values ('nobody')", "conversations_user_id_fkey"),
        ("update messages set conversation_id = 7", "messages_conversation_id_fkey"),
        # It exists, and is another user's.
        ("update messages set conversation_id = 9101", "messages_conversation_id_fkey"),
        ("""update session set "userId" = 'nobody'""", "session_user_id_fkey"),
        ("""update account set "userId" = 'nobody'""", "account_user_id_fkey"),
    ],
)
def test_foreign_key(owner: Connection, statement: str, constraint: str) -> None:
    with refused(owner, ForeignKeyViolation, constraint):
        owner.execute(statement)
