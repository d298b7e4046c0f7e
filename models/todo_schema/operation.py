"""What one query is, and how the same description serves sync and async sessions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

T = TypeVar("T")
P = ParamSpec("P")
Row = Sequence[Any]


@dataclass(frozen=True)
class Query(Generic[T]):
    """One statement, its parameters, and what its rows mean.

    Parameters
    ----------
    name : what the corpus calls the statement
    sql : with `%(name)s` for each parameter
    parameters : by name
    decode : makes the result of the rows, or raises an error of the tree
    """

    name: str
    sql: str
    parameters: Mapping[str, Any]
    decode: Callable[[Sequence[Row]], T]


class Sync:
    """Marks a namespace whose operations return their result."""


class Async:
    """Marks a namespace whose operations return an awaitable."""


Mode = TypeVar("Mode", Sync, Async)


@dataclass(frozen=True)
class Namespace(Generic[Mode]):
    """A user's tasks, conversations or messages: what a session has.

    Parameters
    ----------
    user_id : whose they are
    secret : signs cursors
    run : executes a query in the session's transaction
    """

    user_id: str
    secret: bytes
    run: Callable[[Query[Any]], Any]

    def _with(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a statement's parameters: the user, and these."""
        return {"user_id": self.user_id, **values}


class operation(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that returns a query: called on a session's namespace, it runs that query."""

    def __init__(self, build: Callable[Concatenate[Any, P], Query[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__
        # What a caller sees: without self, and the result instead of its query.
        signature = inspect.signature(build)
        result = str(signature.return_annotation).removeprefix("Query[").removesuffix("]")
        parameters = list(signature.parameters.values())[1:]
        self.__signature__ = signature.replace(parameters=parameters, return_annotation=result)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Namespace[Sync], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, instance: Namespace[Async], owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Namespace[Any] | None, owner: type) -> Any:
        if instance is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance.run(self.build(instance, *args, **kwargs))

        call.__name__ = self.build.__name__
        call.__doc__ = self.__doc__
        # What inspect and help() look for first; the types know no such attribute of a function.
        call.__signature__ = self.__signature__  # type: ignore[attr-defined]
        return call
