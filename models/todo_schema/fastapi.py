"""FastAPI: a session per request that commits before the response, and errors as responses."""

# No `from __future__ import annotations`: FastAPI reads those of a function made in a function.
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from todo_schema import aio, session
from todo_schema.engine import CONNECTIONS
from todo_schema.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    TodoError,
    UnavailableError,
    UnknownUserError,
    logger,
)
from todo_schema.schemas import violations

try:
    from fastapi import Depends, FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
except ImportError as error:
    raise ImportError("todo_schema.fastapi needs: pip install 'todo-schema[fastapi]'") from error

__all__ = ["add_error_handlers", "async_session_dependency", "session_dependency"]

_STATUS: dict[type[TodoError], int] = {
    UnknownUserError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    InvalidError: 422,
    UnavailableError: 503,
}


def session_dependency(engine: Engine, current_user: Callable[..., Any]) -> Any:
    """Return what stands beside `UserSession` in `Annotated`: a session for each request.

    The transaction is committed when the endpoint returns and before the response is sent, so a
    client never hears of success that was not stored; an endpoint that raises stores nothing.

    Parameters
    ----------
    engine : of `create_engine`
    current_user : a dependency that returns the id of the request's user; the session makes sure
        that the user exists

    Returns
    -------
    `Depends(…)`
    """

    def dependency(user_id: Annotated[str, Depends(current_user)]) -> Iterator[session.UserSession]:
        with session.user_session(engine, _checked(user_id), require_user=True) as opened:
            yield opened

    # Who waits for a connection blocks a thread, and who has one needs a thread to go on.
    most = engine.get_execution_options().get(CONNECTIONS)
    return Depends(dependency, scope="function", max_concurrency=most)


def async_session_dependency(engine: AsyncEngine, current_user: Callable[..., Any]) -> Any:
    """Return what stands beside `aio.UserSession` in `Annotated`, as `session_dependency` does.

    Parameters
    ----------
    engine : of `aio.create_engine`
    current_user : a dependency that returns the id of the request's user

    Returns
    -------
    `Depends(…)`
    """

    async def dependency(
        user_id: Annotated[str, Depends(current_user)],
    ) -> AsyncIterator[aio.UserSession]:
        async with aio.user_session(engine, _checked(user_id), require_user=True) as opened:
            yield opened

    return Depends(dependency, scope="function")


def _checked(user_id: Any) -> str:
    """Return the id that the application's own dependency returned."""
    if user_id is None:
        raise UnknownUserError
    if not isinstance(user_id, str):
        raise TypeError("current_user has to return the user's id, a str")
    return user_id


def add_error_handlers(app: FastAPI) -> None:
    """Answer errors of the tree, and invalid requests, with a status and a message fit for users.

    The body is `{"detail": message}`; for 422 it is FastAPI's list of `{loc, msg, type}`, where
    `type` is the rule, and never repeats what was sent.

    Parameters
    ----------
    app : the application
    """
    app.add_exception_handler(TodoError, _of_tree)
    app.add_exception_handler(RequestValidationError, _of_request)


def _of_tree(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TodoError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        logger.error("%s: %s", request.url.path, error, exc_info=error)
        return JSONResponse({"detail": "Internal Server Error"}, status)
    detail: Any = error.message
    if isinstance(error, InvalidError):
        detail = [
            {"loc": [error.field] if error.field else [], "msg": error.message, "type": error.rule}
        ]
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
    return JSONResponse({"detail": detail}, status, headers)


def _of_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    detail = [
        {"loc": place, "msg": message, "type": rule}
        for place, rule, message in violations(error.errors())
    ]
    return JSONResponse({"detail": detail}, 422)
