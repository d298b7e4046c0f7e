"""What the two applications share: settings, what requests say, and the application's frame."""

import os
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from todo_schema import Order, TaskFilter, TaskSort, TaskUpdate, Total
from todo_schema.fastapi import add_error_handlers


@dataclass(frozen=True)
class Settings:
    """Where Better Auth and the database are; README.md has the variables."""

    issuer: str
    audience: str
    jwks_url: str
    jwks_timeout: float = 5
    jwks_cooldown: float = 30
    database_url: str | None = None  # DATABASE_URL
    pool_size: int = 5
    max_overflow: int = 10

    @classmethod
    def of_environment(cls) -> "Settings":
        """Return the settings of the environment."""
        given = os.environ
        base = given["AUTH_URL"].rstrip("/")
        return cls(
            issuer=base,
            audience=given.get("AUTH_AUDIENCE", base),
            jwks_url=given.get("JWKS_URL", f"{base}/api/auth/jwks"),
            jwks_cooldown=float(given.get("JWKS_COOLDOWN", cls.jwks_cooldown)),
            pool_size=int(given.get("POOL_SIZE", cls.pool_size)),
            max_overflow=int(given.get("MAX_OVERFLOW", cls.max_overflow)),
        )


# The package checks the bounds, with its own messages: here they are for the documentation alone.
Limit = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": 100})]
PageNumber = Annotated[int, Field(json_schema_extra={"minimum": 1})]
Ids = Annotated[list[int], Field(json_schema_extra={"minItems": 1, "maxItems": 1000})]


class _Sorted(TaskFilter):
    sort: TaskSort = "created"
    order: Order | None = None
    limit: Limit = 20


class _TaskList(_Sorted):
    cursor: str | None = None


class _TaskPage(_Sorted):
    page: PageNumber = 1
    total: Total = "bounded"


class _TaskSearch(TaskFilter):
    search: str
    limit: Limit = 20
    cursor: str | None = None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _List(_Strict):
    limit: Limit = 20
    cursor: str | None = None


class _MessageList(_List):
    order: Order = "asc"


TaskList = Annotated[_TaskList, Query()]
TaskPage = Annotated[_TaskPage, Query()]
TaskSearch = Annotated[_TaskSearch, Query()]
ConversationList = Annotated[_List, Query()]
MessageList = Annotated[_MessageList, Query()]


class BulkDelete(_Strict):
    """Tasks to delete, all or none."""

    ids: Ids


class BulkUpdate(BulkDelete):
    """Tasks to change, all or none, all in the same way."""

    changes: TaskUpdate


def frame(lifespan: Any) -> FastAPI:
    """Return an application that has no routes yet, and answers errors."""
    said = {
        401: "Nobody is signed in",
        404: "The user has no such thing",
        409: "Something else changed at the same time",
        503: "Try again",
    }
    responses: dict[int | str, Any] = {code: {"description": text} for code, text in said.items()}
    app = FastAPI(title="Todo", lifespan=lifespan, responses=responses)
    add_error_handlers(app)
    return app
