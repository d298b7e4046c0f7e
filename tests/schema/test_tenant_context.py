"""set_tenant() says whose rows a transaction sees, and nothing outlives the transaction."""

from __future__ import annotations

import psycopg
import pytest

from tests.schema.acting import Connection, act_as, column, refused, value

INVALID_PARAMETER = "22023"
CURRENT = "select nullif(current_setting('app.user_id', true), '')"


@pytest.mark.row("R7")
@pytest.mark.parametrize("user", [None, ""])
def test_refuses_nobody(owner: Connection, user: str | None) -> None:
    act_as(owner, "todo_app", "alice")
    with refused(owner, INVALID_PARAMETER):
        owner.execute("select set_tenant(%s)", [user])
    assert value(owner, CURRENT) == "alice"


@pytest.mark.row("R7")
@pytest.mark.parametrize(
    "user",
    [
        "alice",
        " ",
        "it's",
        "\\",
        "a\\'b",
        "'; set local app.user_id = 'bob",
        "$$",
        "%L",
        "\u00fc\U0001f600",
        "x" * 255,
    ],
)
def test_takes_any_other_text_as_it_is(owner: Connection, user: str) -> None:
    act_as(owner, "todo_app", user)
    assert value(owner, CURRENT) == user


@pytest.mark.row("R7")
def test_ends_with_the_transaction(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for outcome in ("commit", "rollback"):
            with connection.transaction(force_rollback=outcome == "rollback"):
                connection.execute("select set_tenant('alice')")
                assert value(connection, CURRENT) == "alice"
            assert value(connection, CURRENT) is None
        # Outside a transaction it holds for its own statement.
        connection.execute("select set_tenant('alice')")
        assert value(connection, CURRENT) is None


@pytest.mark.row("R7")
def test_a_savepoint_takes_it_back(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    with owner.transaction(force_rollback=True):
        owner.execute("select set_tenant('bob')")
        assert set(column(owner, "select user_id from tasks")) == {"bob"}
    assert set(column(owner, "select user_id from tasks")) == {"alice"}


@pytest.mark.row("R7")
def test_a_released_savepoint_keeps_it(owner: Connection) -> None:
    act_as(owner, "todo_app", "alice")
    with owner.transaction():
        owner.execute("select set_tenant('bob')")
    assert value(owner, CURRENT) == "bob"


@pytest.mark.row("R7")
def test_leaves_the_search_path_alone(owner: Connection) -> None:
    before = value(owner, "show search_path")
    act_as(owner, "todo_app", "alice")
    assert value(owner, "show search_path") == before
