"""The service in functions, which FastAPI runs in threads."""

# No `from __future__ import annotations`: FastAPI reads those of a function made in a function.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

import todo_schema as todo
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from todo_schema import Page, Slice
from todo_schema.fastapi import session_dependency

from tests.example_app import shared
from tests.example_app.auth import user_of_token


def create_app(settings: shared.Settings | None = None) -> FastAPI:
    """Return the application; its settings are the environment's by default."""
    given = settings or shared.Settings.of_environment()
    engine = todo.create_engine(
        given.database_url, pool_size=given.pool_size, max_overflow=given.max_overflow
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(todo.check_schema, engine)
        yield
        engine.dispose()

    app = shared.frame(lifespan)
    app.state.engine = engine
    per_request = session_dependency(engine, user_of_token(given))
    Session: TypeAlias = Annotated[todo.UserSession, per_request]

    @app.get("/me")
    def me(session: Session) -> todo.UserRead:
        return session.user()

    @app.post("/tasks", status_code=201)
    def create_task(session: Session, task: todo.TaskCreate) -> todo.TaskRead:
        return session.tasks.create(task)

    @app.get("/tasks")
    def list_tasks(session: Session, q: shared.TaskList) -> Slice[todo.TaskRead]:
        return session.tasks.list(q, sort=q.sort, order=q.order, limit=q.limit, cursor=q.cursor)

    @app.get("/tasks/page")
    def page_of_tasks(session: Session, q: shared.TaskPage) -> Page[todo.TaskRead]:
        return session.tasks.page(
            q, sort=q.sort, order=q.order, page=q.page, limit=q.limit, total=q.total
        )

    @app.get("/tasks/search")
    def search_tasks(session: Session, q: shared.TaskSearch) -> Slice[todo.TaskRead]:
        return session.tasks.search(q.search, q, limit=q.limit, cursor=q.cursor)

    @app.get("/tasks/counts")
    def count_tasks(session: Session) -> todo.TaskCounts:
        return session.tasks.counts()

    @app.patch("/tasks")
    def update_tasks(session: Session, bulk: shared.BulkUpdate) -> list[todo.TaskRead]:
        return session.tasks.update_many(bulk.ids, bulk.changes)

    @app.post("/tasks/delete")
    def delete_tasks(session: Session, bulk: shared.BulkDelete) -> int:
        return session.tasks.delete_many(bulk.ids)

    @app.get("/tasks/{id}")
    def get_task(session: Session, id: int) -> todo.TaskRead:
        return session.tasks.get(id)

    @app.patch("/tasks/{id}")
    def update_task(session: Session, id: int, changes: todo.TaskUpdate) -> todo.TaskRead:
        return session.tasks.update(id, changes)

    @app.post("/tasks/{id}/toggle")
    def toggle_task(session: Session, id: int) -> todo.TaskRead:
        return session.tasks.toggle(id)

    @app.delete("/tasks/{id}", status_code=204)
    def delete_task(session: Session, id: int) -> None:
        session.tasks.delete(id)

    @app.post("/conversations", status_code=201)
    def create_conversation(
        session: Session, new: todo.ConversationCreate
    ) -> todo.ConversationRead:
        return session.conversations.create(new)

    @app.get("/conversations")
    def list_conversations(
        session: Session, q: shared.ConversationList
    ) -> Slice[todo.ConversationRead]:
        return session.conversations.list(limit=q.limit, cursor=q.cursor)

    @app.get("/conversations/{id}")
    def get_conversation(session: Session, id: int) -> todo.ConversationRead:
        return session.conversations.get(id)

    @app.patch("/conversations/{id}")
    def update_conversation(
        session: Session, id: int, changes: todo.ConversationUpdate
    ) -> todo.ConversationRead:
        return session.conversations.update(id, changes)

    @app.delete("/conversations/{id}", status_code=204)
    def delete_conversation(session: Session, id: int) -> None:
        session.conversations.delete(id)

    @app.post("/conversations/{id}/messages", status_code=201)
    def create_message(session: Session, id: int, new: todo.MessageCreate) -> todo.MessageRead:
        return session.messages.create(id, new)

    @app.get("/conversations/{id}/messages")
    def list_messages(session: Session, id: int, q: shared.MessageList) -> Slice[todo.MessageRead]:
        return session.messages.list(id, order=q.order, limit=q.limit, cursor=q.cursor)

    @app.delete("/messages/{id}", status_code=204)
    def delete_message(session: Session, id: int) -> None:
        session.messages.delete(id)

    return app
