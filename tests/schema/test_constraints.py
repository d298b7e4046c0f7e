"""Every rule of the data is in the database: what it admits, and by which name it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.schema.acting import Connection, act_as, column, refused, value

CHECK_VIOLATION = "23514"
NOT_NULL_VIOLATION = "23502"
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"

# What is needed beside the column under test.
REQUIRED: dict[str, dict[str, Any]] = {
    "tasks": {"user_id": "alice", "title": "x"},
    "conversations": {"user_id": "alice"},
    "messages": {"user_id": "alice", "conversation_id": 9001, "role": "user", "content": "x"},
    '"user"': {"id": "carol", "name": "Carol", "email": "carol@example.com"},
    "session": {
        "id": "s",
        "token": "t",
        "userId": "alice",
        "expiresAt": "2030-01-01",
        "updatedAt": "2020-01-01",
    },
    "account": {
        "id": "a",
        "accountId": "1",
        "providerId": "github",
        "userId": "alice",
        "updatedAt": "2020-01-01",
    },
    "verification": {"id": "v", "identifier": "i", "value": "x", "expiresAt": "2030-01-01"},
    "jwks": {"id": "j", "publicKey": "{}", "privateKey": "{}"},
}

# Every character, and only those, that str.strip() removes.
BLANK = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
# Neighbours of the blank ones and look-alikes: a zero-width space, a word joiner, a Braille blank.
NOT_BLANK = "\x08\x0e\x1b!\x84\x86\x9f\xa1\u167f\u1681\u1fff\u200b\u2060\u2800\ufeff"

# table, column, admitted values, {constraint: refused values}
CASES: list[tuple[str, str, list[Any], dict[str, list[Any]]]] = [
    (
        "tasks",
        "title",
        ["x", " x ", "x" * 200, "\U0001f600" * 200, *NOT_BLANK],
        {
            "tasks_title_length_check": ["x" * 201],
            "tasks_title_blank_check": ["", *BLANK, BLANK, " " * 200],
        },
    ),
    (
        "tasks",
        "description",
        [None, "", " ", "x" * 1000],
        {"tasks_description_length_check": ["x" * 1001]},
    ),
    (
        "tasks",
        "status",
        ["pending", "in_progress", "completed"],
        {"tasks_status_check": ["", "Pending", "done"]},
    ),
    (
        "tasks",
        "priority",
        ["low", "medium", "high"],
        {"tasks_priority_check": ["", "High", "urgent"]},
    ),
    (
        "tasks",
        "due_date",
        [None, "0001-01-01", "9999-12-31"],
        {
            "tasks_due_date_check": [
                "0001-12-31 BC",
                "10000-01-01",
                "infinity",
                "-infinity",
            ]
        },
    ),
    (
        "tasks",
        "tags",
        [
            "{}",
            "{x}",
            "[1:1]={x}",
            ["x" * 50],
            [f"tag {n}" for n in range(20)],
            ["a", "A"],
            ["a", " a"],
            ["NULL", "{}", ","],
            ["\u200b"],
        ],
        {
            "tasks_tags_count_check": [
                [f"tag {n}" for n in range(21)],
                ["x"] * 21,
                [[f"{m} {n}" for n in range(7)] for m in range(3)],
            ],
            "tasks_tags_items_check": [
                ["a", None],
                [None],
                [""],
                ["a", BLANK],
                *([character] for character in BLANK),
                ["x" * 51],
                ["a", "b", "a"],
                [["a", "b"], ["a", "b"]],
            ],
            "tasks_tags_shape_check": [
                [["a", "b"], ["c", "d"]],
                [[["a"]]],
                "[0:0]={a}",
                "[2:3]={a,b}",
                "[-1:0]={a,b}",
            ],
        },
    ),
    (
        "conversations",
        "title",
        [None, "x", "x" * 200],
        {
            "conversations_title_length_check": ["x" * 201],
            "conversations_title_blank_check": ["", BLANK],
        },
    ),
    (
        "messages",
        "role",
        ["user", "assistant"],
        {"messages_role_check": ["", "system", "User"]},
    ),
    (
        "messages",
        "content",
        ["x", " ", "x" * 10000],
        {"messages_content_length_check": ["", "x" * 10001]},
    ),
    ('"user"', "id", ["x", "x" * 255], {"user_id_length_check": ["", "x" * 256]}),
    ('"user"', "name", ["", "x" * 255], {"user_name_length_check": ["x" * 256]}),
    (
        '"user"',
        "email",
        ["a@b", "x" * 255, "\u00e9@example.com"],
        {
            "user_email_length_check": ["", "x" * 256],
            "user_email_lower_check": ["Carol@example.com", "carol@Example.com"],
        },
    ),
    ("session", "id", ["x" * 255], {"session_id_length_check": ["", "x" * 256]}),
    ("session", "token", ["x" * 10000], {"session_token_length_check": [""]}),
    ("account", "id", ["x" * 255], {"account_id_length_check": ["", "x" * 256]}),
    ("account", "accountId", ["x" * 500], {"account_account_id_length_check": [""]}),
    ("account", "providerId", ["x" * 500], {"account_provider_id_length_check": [""]}),
    ("verification", "id", ["x" * 255], {"verification_id_length_check": ["", "x" * 256]}),
    ("verification", "identifier", ["x" * 500], {"verification_identifier_length_check": [""]}),
    ("jwks", "id", ["x" * 255], {"jwks_id_length_check": ["", "x" * 256]}),
]
ADMITTED = [(table, name, admitted) for table, name, admitted, _ in CASES]
REFUSED = [
    (table, name, constraint, values)
    for table, name, _, refusals in CASES
    for constraint, values in refusals.items()
]


def insert(connection: Connection, table: str, **values: Any) -> None:
    row = {**REQUIRED[table], **values}
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(
        "%s::text[]" if name == "tags" and isinstance(row[name], str) else "%s" for name in row
    )
    connection.execute(f"insert into {table} ({names}) values ({marks})", list(row.values()))


@pytest.mark.row("R2", "R3", "R4")
@pytest.mark.parametrize(("table", "name", "admitted"), ADMITTED)
def test_admits(owner: Connection, table: str, name: str, admitted: list[Any]) -> None:
    for item in admitted:
        with owner.transaction(force_rollback=True):
            insert(owner, table, **{name: item})


@pytest.mark.row("R2", "R3", "R4")
@pytest.mark.parametrize(("table", "name", "constraint", "values"), REFUSED)
def test_refuses(
    owner: Connection, table: str, name: str, constraint: str, values: list[Any]
) -> None:
    for item in values:
        with refused(owner, CHECK_VIOLATION, constraint):
            insert(owner, table, **{name: item})


@pytest.mark.row("R4")
def test_every_check_has_a_case(owner: Connection) -> None:
    checks = column(
        owner,
        """
        select conname from pg_constraint
        where
            contype = 'c' and connamespace = 'public'::regnamespace
            and conname not like 'migration_history%' -- the runner's
        """,
    )
    assert set(checks) == {constraint for _, _, constraint, _ in REFUSED}


@pytest.mark.row("R4")
def test_an_update_is_checked_as_an_insert_is(owner: Connection) -> None:
    with refused(owner, CHECK_VIOLATION, "tasks_title_blank_check"):
        owner.execute("update tasks set title = ' ' where id = 9001")
    with refused(owner, CHECK_VIOLATION, "tasks_tags_items_check"):
        owner.execute("update tasks set tags = array[null] where id = 9001")


@pytest.mark.row("R4")
def test_the_application_role_meets_the_same_checks(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    insert(owner, "tasks", tags=["a", "b"])
    with refused(owner, CHECK_VIOLATION, "tasks_tags_items_check"):
        insert(owner, "tasks", tags=["a", "a"])


@pytest.mark.row("R2")
def test_blank_is_what_python_strips_for_every_character(owner: Connection) -> None:
    check = value(
        owner,
        """
        select pg_get_expr(conbin, conrelid) from pg_constraint
        where conname = 'tasks_title_blank_check'
        """,
    )
    blank = column(
        owner,
        f"""
        select code
        from (
            select code, chr(code) as title
            from generate_series(1, x'10ffff'::int) as code
            where code not between x'd800'::int and x'dfff'::int
        ) as characters
        where not {check}
        """,
    )
    assert [code for code in range(1, 0x110000) if not chr(code).strip()] == blank


@pytest.mark.row("R2")
def test_blank_is_one_list_wherever_it_is_written(owner: Connection) -> None:
    texts = column(
        owner,
        """
        select pg_get_constraintdef(oid) from pg_constraint where conname like '%blank_check'
        union all
        select pg_get_functiondef('tags_are_valid'::regproc)
        """,
    )
    lists = [found for text in texts for found in re.findall(r"\[\^.*?\]", text)]
    assert len(lists) == 3
    assert len(set(lists)) == 1


@pytest.mark.row("R4")
@pytest.mark.parametrize(
    ("table", "name"),
    [
        (table, name)
        for table, names in {
            "tasks": "user_id title status priority tags created_at updated_at",
            "conversations": "user_id created_at updated_at",
            "messages": "user_id conversation_id role content created_at",
            '"user"': "id name email emailVerified createdAt updatedAt",
            "session": "id expiresAt token createdAt updatedAt userId",
            "account": "id accountId providerId userId createdAt updatedAt",
            "verification": "id identifier value expiresAt createdAt updatedAt",
            "jwks": "id publicKey privateKey createdAt",
        }.items()
        for name in names.split()
    ],
)
def test_null_is_refused(owner: Connection, table: str, name: str) -> None:
    with refused(owner, NOT_NULL_VIOLATION):
        insert(owner, table, **{name: None})


@pytest.mark.row("R2", "R3", "R4")
def test_defaults_come_from_the_database(owner: Connection) -> None:
    task = owner.execute(
        """
        insert into tasks (user_id, title) values ('alice', 'x')
        returning
            description, status, completed, priority, priority_rank, due_date, tags,
            created_at = now(), updated_at = now(), id < 9000
        """
    ).fetchone()
    assert task == (None, "pending", False, "medium", 2, None, [], True, True, True)
    conversation = owner.execute(
        """
        insert into conversations (user_id) values ('alice')
        returning title, created_at = now(), updated_at = now()
        """
    ).fetchone()
    assert conversation == (None, True, True)
    user = owner.execute(
        """
        insert into "user" (id, name, email) values ('carol', '', 'carol@example.com')
        returning "emailVerified", image, "createdAt" = now(), "updatedAt" = now()
        """
    ).fetchone()
    assert user == (False, None, True, True)


@pytest.mark.row("R2")
@pytest.mark.parametrize(
    ("status", "completed"), [("pending", False), ("in_progress", False), ("completed", True)]
)
def test_completed_follows_status(owner: Connection, status: str, completed: bool) -> None:
    owner.execute("update tasks set status = %s where id = 9001", [status])
    assert value(owner, "select completed from tasks where id = 9001") is completed


@pytest.mark.row("R2")
@pytest.mark.parametrize(("priority", "rank"), [("low", 1), ("medium", 2), ("high", 3)])
def test_rank_follows_priority(owner: Connection, priority: str, rank: int) -> None:
    owner.execute("update tasks set priority = %s where id = 9001", [priority])
    assert value(owner, "select priority_rank from tasks where id = 9001") == rank


@pytest.mark.row("R1", "R4")
@pytest.mark.parametrize(
    ("table", "values", "constraint"),
    [
        ('"user"', {"id": "alice"}, "user_pkey"),
        ('"user"', {"email": "alice@example.com"}, "user_email_key"),
        ("session", {"token": "token-a"}, "session_token_key"),
        (
            "account",
            {"accountId": "alice", "providerId": "credential"},
            "account_provider_id_account_id_key",
        ),
        ("jwks", {"id": "key"}, "jwks_pkey"),
    ],
)
def test_unique(owner: Connection, table: str, values: dict[str, Any], constraint: str) -> None:
    with refused(owner, UNIQUE_VIOLATION, constraint):
        insert(owner, table, **values)


@pytest.mark.row("R3", "R4")
@pytest.mark.parametrize(
    ("table", "values", "constraint"),
    [
        ("tasks", {"user_id": "nobody"}, "tasks_user_id_fkey"),
        ("conversations", {"user_id": "nobody"}, "conversations_user_id_fkey"),
        ("messages", {"conversation_id": 7}, "messages_conversation_id_fkey"),
        # It exists, and is another user's.
        ("messages", {"conversation_id": 9101}, "messages_conversation_id_fkey"),
        ("session", {"userId": "nobody"}, "session_user_id_fkey"),
        ("account", {"userId": "nobody"}, "account_user_id_fkey"),
    ],
)
def test_foreign_key(
    owner: Connection, table: str, values: dict[str, Any], constraint: str
) -> None:
    with refused(owner, FOREIGN_KEY_VIOLATION, constraint):
        insert(owner, table, **values)
