"""What every test of the package is watched for: that each statement it sends is in the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from sqlalchemy import Engine, event
from todo_schema.corpus import statements
from todo_schema.engine import QUERY


@cache
def known() -> dict[str, str]:
    return {statement.name: statement.sql for statement in statements(everything=True)}


@pytest.fixture(autouse=True)
def corpus_is_whole() -> Iterator[None]:
    """Fail a test during which an operation sent what the plans are not proven for."""
    strange: list[str] = []
    sent = known()  # takes a second, which no test may lose between two statements

    def note(_connection: Any, _cursor: Any, sql: str, _values: Any, context: Any, *_: Any) -> None:
        name = context.execution_options.get(QUERY) if context else None
        if name is not None and sent.get(name) != sql:
            strange.append(f"{name}: {sql}")

    event.listen(Engine, "before_cursor_execute", note)
    yield
    event.remove(Engine, "before_cursor_execute", note)
    assert strange == []
