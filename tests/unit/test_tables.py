"""The mirrors without a database: importable, constructible, and apart from other models."""

from __future__ import annotations

import re

import pytest
from sqlalchemy.orm import configure_mappers
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

pytestmark = pytest.mark.row("R13")


def test_a_task_is_made_with_its_defaults_and_the_databases_are_none() -> None:
    task, other = (Task(user_id="alice", title="Buy milk") for _ in range(2))
    assert (task.status, task.priority, task.tags) == ("pending", "medium", [])
    assert task.tags is not other.tags
    assert (task.description, task.due_date, task.completed, task.priority_rank) == (None,) * 4
    assert (task.id, task.created_at, task.updated_at) == (None,) * 3


def test_relationships_hold_before_anything_is_stored() -> None:
    user = User(id="alice", name="Alice", email="alice@example.com")
    task = Task(user_id="alice", title="x", user=user)
    message = Message(user_id="alice", role="user", content="x")
    conversation = Conversation(user_id="alice", user=user, messages=[message])
    assert user.tasks == [task]
    assert user.conversations == [conversation]
    assert message.conversation is conversation


def test_attributes_are_snake_case_where_columns_are_not() -> None:
    for mapper in User._sa_registry.mappers:
        for attribute in mapper.column_attrs:
            name = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", attribute.columns[0].name)
            assert attribute.key == name


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


def test_an_applications_models_may_have_the_same_names() -> None:
    class Task(SQLModel, table=True):
        __tablename__ = "tasks"
        id: int = Field(primary_key=True)

    assert Task.metadata is not tables.metadata
    assert "tasks" in Task.metadata.tables
    configure_mappers()
