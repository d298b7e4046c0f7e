"""The mirrors are the database's tables, and write only what the application's role may."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.orm import selectinload
from sqlmodel import Session, select
from todo_schema.tables import Conversation, Message, Task, TaskSearch, User, metadata

from scripts.catalog.model import BOOKKEEPING
from tests.schema.acting import ROWS, Connection, act_as, column

pytestmark = pytest.mark.row("R13")

# The mirrors leave these to the SQL.
NOT_MIRRORED = {"modify_comment", "remove_table_comment", "remove_index", "remove_constraint"}


@pytest.fixture
def engine(empty: Connection) -> sa.Engine:
    """An engine whose one connection is the test's transaction."""
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: empty,
        poolclass=sa.StaticPool,
        pool_reset_on_return=None,
    )
    engine.connect().close()  # the first connection is rolled back, and the rows would be with it
    empty.execute(ROWS)
    return engine


def test_tables_columns_types_defaults_and_keys_are_the_databases(engine: sa.Engine) -> None:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "table" or name not in BOOKKEEPING,
    }
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    flat = [one for entry in found for one in (entry if isinstance(entry, list) else [entry])]
    assert [one for one in flat if one[0] not in NOT_MIRRORED] == []
    # What alembic does not compare.
    inspector = sa.inspect(engine)
    for name, table in metadata.tables.items():
        key = inspector.get_pk_constraint(name)["constrained_columns"]
        assert key == [mirrored.name for mirrored in table.primary_key]
        generated = {found["name"] for found in inspector.get_columns(name) if "computed" in found}
        assert generated == {mirrored.name for mirrored in table.columns if mirrored.computed}


def test_an_object_is_stored_and_comes_back_complete(empty: Connection, engine: sa.Engine) -> None:
    act_as(empty, "todo_app", "alice")
    with Session(engine, expire_on_commit=False) as session:
        task = Task(user_id="alice", title="x", priority="high")
        session.add(task)
        session.flush()
        statements = count(engine)
        assert (task.status, task.completed, task.priority_rank) == ("pending", False, 3)
        assert task.id < 9000
        assert task.created_at == task.updated_at
        assert statements == []

        task.status = "completed"
        task.tags = ["new"]
        session.flush()
        assert (task.completed, task.updated_at) == (True, task.created_at)
        (update,) = statements
        assert "updated_at" in update  # by RETURNING: within a transaction the time stays the same
        stored = session.exec(
            select(Task).where(Task.id == task.id).execution_options(populate_existing=True)
        ).one()
        assert stored.tags == ["new"]
        search = session.exec(select(TaskSearch).where(TaskSearch.task_id == task.id)).one()
        assert search.user_id == "alice"


def test_relationships(empty: Connection, engine: sa.Engine) -> None:
    act_as(empty, "todo_app", "alice")
    with Session(engine) as session:
        alice = session.exec(
            select(User).options(
                selectinload(User.tasks),  # type: ignore[arg-type]
                selectinload(User.conversations).selectinload(Conversation.messages),  # type: ignore[arg-type]
            )
        ).one()
        assert {task.id for task in alice.tasks} == {9001, 9002}
        (conversation,) = alice.conversations
        assert [message.id for message in conversation.messages] == [9001, 9002]
        assert conversation.messages[0].conversation is conversation
        assert alice.tasks[0].user is alice

        started = Conversation(
            user_id="alice", messages=[Message(user_id="alice", role="user", content="x")]
        )
        session.add(started)
        session.flush()
        assert started.messages[0].user_id == "alice"
        assert started.messages[0].conversation_id == started.id


@pytest.mark.row("R4")
@pytest.mark.parametrize("loaded", [False, True])
def test_deleting_a_conversation_takes_its_messages(
    empty: Connection, engine: sa.Engine, loaded: bool
) -> None:
    act_as(empty, "todo_app", "alice")
    with Session(engine) as session:
        conversation = session.exec(select(Conversation)).one()
        if loaded:
            session.refresh(conversation, ["messages"])
            assert len(conversation.messages) == 2
        statements = count(engine)
        session.delete(conversation)
        session.flush()
        assert any(text.startswith("DELETE FROM conversations") for text in statements)
        assert not any(text.startswith(("SELECT", "UPDATE")) for text in statements)
        assert column(empty, "select id from messages") == []


def count(engine: sa.Engine) -> list[str]:
    """Return a list that gets every statement from now on."""
    statements: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    return statements
