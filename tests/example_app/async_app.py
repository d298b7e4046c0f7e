"""The service in coroutines."""

# No `from __future__ import annotations`: FastAPI reads those of a function made in a function.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import todo_schema as todo
from fastapi import FastAPI
from todo_schema import Page, Slice, aio
from todo_schema.fastapi import async_session_dependency

from tests.example_app import shared
from tests.example_app.auth import user_of_token


def create_app(settings: shared.Settings | None = None) -> FastAPI:
    """Return the application; its settings are the environment's by default."""
    given = settings or shared.Settings.of_environment()
    engine = aio.create_engine(
        given.database_url, pool_size=given.pool_size, max_overflow=given.max_overflow
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await aio.check_schema(engine)
        yield
        await engine.dispose()

    app = shared.frame(lifespan)
    app.state.engine = engine
    per_request = async_session_dependency(engine, user_of_token(given))
    Session: TypeAlias = Annotated[aio.UserSession, per_request]

    @app.get("/me")
    async def me(session: Session) -> todo.UserRead:
        return await session.user()

    @app.post("/tasks", status_code=201)
    async def create_task(session: Session, task: todo.TaskCreate) -> todo.TaskRead:
        return await session.tasks.create(task)

    @app.get("/tasks")
    async def list_tasks(session: Session, q: shared.TaskList) -> Slice[todo.TaskRead]:
        return await session.tasks.list(
            q, sort=q.sort, order=q.order, limit=q.limit, cursor=q.cursor
        )

    @app.get("/tasks/page")
    async def page_of_tasks(session: Session, q: shared.TaskPage) -> Page[todo.TaskRead]:
        return await session.tasks.page(
            q, sort=q.sort, order=q.order, page=q.page, limit=q.limit, total=q.total
        )

    @app.get("/tasks/search")
    async def search_tasks(session: Session, q: shared.TaskSearch) -> Slice[todo.TaskRead]:
        return await session.tasks.search(q.search, q, limit=q.limit, cursor=q.cursor)

    @app.get("/tasks/counts")
    async def count_tasks(session: Session) -> todo.TaskCounts:
        return await session.tasks.counts()

    @app.patch("/tasks")
    async def update_tasks(session: Session, bulk: shared.BulkUpdate) -> list[todo.TaskRead]:
        return await session.tasks.update_many(bulk.ids, bulk.changes)

    @app.post("/tasks/delete")
    async def delete_tasks(session: Session, bulk: shared.BulkDelete) -> int:
        return await session.tasks.delete_many(bulk.ids)

    @app.get("/tasks/{id}")
    async def get_task(session: Session, id: int) -> todo.TaskRead:
        return await session.tasks.get(id)

    @app.patch("/tasks/{id}")
    async def update_task(session: Session, id: int, changes: todo.TaskUpdate) -> todo.TaskRead:
        return await session.tasks.update(id, changes)

    @app.post("/tasks/{id}/toggle")
    async def toggle_task(session: Session, id: int) -> todo.TaskRead:
        return await session.tasks.toggle(id)

    @app.delete("/tasks/{id}", status_code=204)
    async def delete_task(session: Session, id: int) -> None:
        await session.tasks.delete(id)

    @app.post("/conversations", status_code=201)
    async def create_conversation(
        session: Session, new: todo.ConversationCreate
    ) -> todo.ConversationRead:
        return await session.conversations.create(new)

    @app.get("/conversations")
    async def list_conversations(
        session: Session, q: shared.ConversationList
    ) -> Slice[todo.ConversationRead]:
        return await session.conversations.list(limit=q.limit, cursor=q.cursor)

    @app.get("/conversations/{id}")
    async def get_conversation(session: Session, id: int) -> todo.ConversationRead:
        return await session.conversations.get(id)

    @app.patch("/conversations/{id}")
    async def update_conversation(
        session: Session, id: int, changes: todo.ConversationUpdate
    ) -> todo.ConversationRead:
        return await session.conversations.update(id, changes)

    @app.delete("/conversations/{id}", status_code=204)
    async def delete_conversation(session: Session, id: int) -> None:
        await session.conversations.delete(id)

    @app.post("/conversations/{id}/messages", status_code=201)
    async def create_message(
        session: Session, id: int, new: todo.MessageCreate
    ) -> todo.MessageRead:
        return await session.messages.create(id, new)

    @app.get("/conversations/{id}/messages")
    async def list_messages(
        session: Session, id: int, q: shared.MessageList
    ) -> Slice[todo.MessageRead]:
        return await session.messages.list(id, order=q.order, limit=q.limit, cursor=q.cursor)

    @app.delete("/messages/{id}", status_code=204)
    async def delete_message(session: Session, id: int) -> None:
        await session.messages.delete(id)

    return app
