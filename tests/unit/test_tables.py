"""The mirrors without a database: importable, constructible, and apart from other models."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import configure_mappers
from sqlalchemy.schema import CreateTable
from sqlmodel import Field, SQLModel
from todo_schema import tables
from todo_schema.tables import (
    Account,
    AuthSession,
    Conversation,
    Jwk,
    Message,
    Task,
    User,
    Verification,
)

PROGRAM = """
import sys
import todo_schema.tables
print("psycopg" in sys.modules)
"""


@pytest.mark.row("R13")
def test_importing_needs_no_driver() -> None:
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.row("R13")
def test_the_mappers_agree_with_one_another() -> None:
    configure_mappers()


@pytest.mark.row("R13")
def test_a_task_is_made_with_its_defaults() -> None:
    task = Task(user_id="alice", title="Buy milk")
    assert (task.status, task.priority, task.tags) == ("pending", "medium", [])
    assert (task.description, task.due_date) == (None, None)


@pytest.mark.row("R13")
@pytest.mark.parametrize("name", ["id", "completed", "priority_rank", "created_at", "updated_at"])
def test_what_the_database_sets_is_none_before(name: str) -> None:
    assert getattr(Task(user_id="alice", title="Buy milk"), name) is None


@pytest.mark.row("R13")
def test_two_tasks_do_not_share_their_tags() -> None:
    one, other = (Task(user_id="alice", title="x") for _ in range(2))
    one.tags.append("x")
    assert other.tags == []


@pytest.mark.row("R13")
def test_relationships_hold_before_anything_is_stored() -> None:
    user = User(id="alice", name="Alice", email="alice@example.com")
    task = Task(user_id="alice", title="x", user=user)
    message = Message(user_id="alice", role="user", content="x")
    conversation = Conversation(user_id="alice", user=user, messages=[message])
    assert user.tasks == [task]
    assert user.conversations == [conversation]
    assert message.conversation is conversation


@pytest.mark.row("R13")
@pytest.mark.parametrize(
    ("mirror", "attribute", "column"),
    [
        (User, "email_verified", "emailVerified"),
        (AuthSession, "user_agent", "userAgent"),
        (Account, "access_token_expires_at", "accessTokenExpiresAt"),
        (Verification, "expires_at", "expiresAt"),
        (Jwk, "private_key", "privateKey"),
    ],
)
def test_attributes_are_snake_case_where_columns_are_not(
    mirror: type[SQLModel], attribute: str, column: str
) -> None:
    assert getattr(mirror, attribute).property.columns[0].name == column


@pytest.mark.row("R13")
@pytest.mark.parametrize(
    ("mirror", "names"),
    [
        (AuthSession, ["token"]),
        (Account, ["password", "access_token", "refresh_token", "id_token"]),
        (Verification, ["value"]),
        (Jwk, ["private_key"]),
    ],
)
def test_a_secret_is_not_shown(mirror: type[SQLModel], names: list[str]) -> None:
    assert "secret" not in repr(mirror(**dict.fromkeys(names, "secret")))


@pytest.mark.row("R13")
def test_an_applications_models_may_have_the_same_names() -> None:
    class Task(SQLModel, table=True):
        __tablename__ = "tasks"
        id: int = Field(primary_key=True)

    assert Task.metadata is not tables.metadata
    assert "tasks" in Task.metadata.tables
    configure_mappers()


@pytest.mark.row("R13")
def test_the_mirror_says_what_the_sql_says() -> None:
    table = tables.metadata.tables["tasks"]
    ddl = str(CreateTable(table).compile(dialect=create_engine("postgresql+psycopg://").dialect))
    assert "id BIGINT GENERATED ALWAYS AS IDENTITY" in ddl
    assert "completed BOOLEAN GENERATED ALWAYS AS (status = 'completed') STORED NOT NULL" in ddl
    assert "tags TEXT[] DEFAULT '{}' NOT NULL" in ddl
    assert "created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL" in ddl
    assert "PRIMARY KEY (user_id, id)" in ddl
