"""What a read costs through the package, by hand with SQLModel, and with the driver alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from tempfile import TemporaryFile
from typing import Any

import psycopg
import sqlalchemy
import todo_schema
from psycopg.pq import Trace
from sqlmodel import Session, col, select
from todo_schema import Task, TaskRead, user_session

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.runner.run import migrate
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project

GOALS = {
    "get": {"sqlmodel": 1.2, "raw": 0.45},
    "list": {"sqlmodel": 1.2, "raw": 0.35},
}
"""Of each read, at least how many times another way's time is the package's."""

TASKS = 1_000
LIMIT = 20
WARM_UP = 10
"""More than what makes the driver prepare a statement, which takes a round trip of its own."""

USER = "bench"

DATA = f"""
insert into "user" (id, name, email) values ('{USER}', 'Bench', 'bench@example.com');
insert into tasks (user_id, title, description, due_date, tags)
select
    '{USER}', 'Return the ' || n || ' borrowed lanterns', 'Before the library is closed again.',
    current_date + n % 30, '{{home,errands}}'
from generate_series(1, {TASKS}) as n;
analyze
"""

Read = Callable[[], Any]


@dataclass(frozen=True)
class Way:
    """One way to read.

    Parameters
    ----------
    reads : each read by its name
    driver : gives the connection that they are sent over
    """

    reads: dict[str, Read]
    driver: Callable[[], psycopg.Connection]


@dataclass(frozen=True)
class Figure:
    """What one read costs, by way, and how the other ways compare with the package.

    Parameters
    ----------
    read : its name
    us : microseconds of the fastest
    round_trips : messages of the server that end an answer; None where libpq cannot tell
    ratios : another way's time over the package's
    goals : the least that a ratio shall be
    """

    read: str
    us: dict[str, int]
    round_trips: dict[str, int] | None
    ratios: dict[str, float]
    goals: dict[str, float]


def measure(
    server: LocalServer, *, seconds: float | None = None, rounds: int | None = None
) -> tuple[list[Figure], int]:
    """Measure in a database of its own, which is dropped in the end; return the rounds, too.

    Parameters
    ----------
    server : the local server; started where it does not run
    seconds : for how long the ways take turns
    rounds : how many turns each has, instead
    """
    with scratch_database(server) as owner:
        with connect(owner, purpose="bench") as connection:
            migrate(connection, project().migrations, roles=project().roles, check_seal=False)
            connection.execute(DATA.encode())
            row = connection.execute("select max(id) from tasks").fetchone()
            assert row
        server.allow_logins()
        with _ways(owner.with_(user=project().application_role), row[0]) as ways:
            trips = _trips(ways)
            times: dict[tuple[str, str], list[float]] = {
                (read, way): [] for read in GOALS for way in ways
            }
            end = time.monotonic() + (seconds or 0)
            for done in count(1):
                for (read, way), known in times.items():
                    known.append(_time(ways[way].reads[read]))
                if done == rounds if rounds else time.monotonic() >= end:
                    break
    # Not the median: on a busy machine that moves by half, and not for all ways alike. What others
    # do only ever adds to a time.
    us = {key: 1e6 * min(known) for key, known in times.items()}
    return [
        Figure(
            read,
            {way: round(us[read, way]) for way in ways},
            {way: trips[read, way] for way in ways} if trips else None,
            {way: round(us[read, way] / us[read, "package"], 2) for way in goals},
            goals,
        )
        for read, goals in GOALS.items()
    ], done


def below_goal(figures: Sequence[Figure]) -> Iterator[Finding]:
    """Yield a finding for each ratio that is below its goal."""
    for figure in figures:
        for way, ratio in figure.ratios.items():
            if ratio < figure.goals[way]:
                yield Finding(
                    "below-goal",
                    f"{figure.read}: {ratio:.2f} times {way}'s speed, below {figure.goals[way]}",
                    fix="run it for longer; then profile the package's side",
                )


def table(figures: Sequence[Figure]) -> tuple[list[str], list[list[object]]]:
    """Return the head and the rows of what is printed."""
    rows: list[list[object]] = [
        [
            figure.read,
            way,
            us,
            figure.round_trips[way] if figure.round_trips else "?",
            f"{figure.ratios[way]:.2f}" if way in figure.ratios else "",
            f"{figure.goals[way]:.2f}" if way in figure.goals else "",
        ]
        for figure in figures
        for way, us in figure.us.items()
    ]
    return ["read", "way", "µs", "round trips", "ratio", "goal"], rows


@contextmanager
def _ways(address: Address, task_id: int) -> Iterator[dict[str, Way]]:
    """Open each way, warm."""
    with ExitStack() as stack:
        ways = {
            "package": _package(address, task_id, stack),
            "sqlmodel": _sqlmodel(address, task_id, stack),
            "raw": _raw(address, task_id, stack),
        }
        for way in ways.values():
            for read in way.reads.values():
                for _ in range(WARM_UP):
                    read()
        yield ways


def _package(address: Address, task_id: int, stack: ExitStack) -> Way:
    engine = todo_schema.create_engine(f"{address.url}?sslmode=disable")
    stack.callback(engine.dispose)

    def get() -> Any:
        with user_session(engine, USER) as session:
            return session.tasks.get(task_id)

    def list_() -> Any:
        with user_session(engine, USER) as session:
            return session.tasks.list(limit=LIMIT)

    return Way({"get": get, "list": list_}, lambda: _pooled(engine))


def _sqlmodel(address: Address, task_id: int, stack: ExitStack) -> Way:
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", connect_args=address.parameters, pool_pre_ping=True
    )
    stack.callback(engine.dispose)
    enter = sqlalchemy.text("select set_tenant(:user)")
    mine = select(Task).where(Task.user_id == USER)

    def get() -> Any:
        with Session(engine, expire_on_commit=False) as session:
            session.execute(enter, {"user": USER})
            task = session.exec(mine.where(Task.id == task_id)).one()
            session.commit()
            return task

    def list_() -> Any:
        with Session(engine, expire_on_commit=False) as session:
            session.execute(enter, {"user": USER})
            tasks = session.exec(mine.order_by(col(Task.id).desc()).limit(LIMIT)).all()
            session.commit()
            return tasks

    return Way({"get": get, "list": list_}, lambda: _pooled(engine))


def _raw(address: Address, task_id: int, stack: ExitStack) -> Way:
    connection = stack.enter_context(psycopg.connect(**address.parameters))
    mine = f"select {', '.join(TaskRead.model_fields)} from tasks where user_id = %(user)s"
    values = {"user": USER, "id": task_id, "limit": LIMIT}

    def ask(query: str) -> Read:
        def read() -> Any:
            connection.execute("select set_tenant(%(user)s)", {"user": USER})
            rows = connection.execute(query.encode(), values).fetchall()
            connection.commit()
            return rows

        return read

    return Way(
        {
            "get": ask(f"{mine} and id = %(id)s"),
            "list": ask(f"{mine} order by id desc limit %(limit)s"),
        },
        lambda: connection,
    )


def _pooled(engine: sqlalchemy.Engine) -> psycopg.Connection:
    """Return the driver's connection of a pool that has only one."""
    with engine.connect() as connection:
        found = connection.connection.driver_connection
        assert isinstance(found, psycopg.Connection)
        return found


def _time(read: Read) -> float:
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def _trips(ways: dict[str, Way]) -> dict[tuple[str, str], int] | None:
    """Return the round trips of each read; None where libpq cannot trace them."""
    try:
        return {
            (read, name): _count_trips(call, way.driver())
            for name, way in ways.items()
            for read, call in way.reads.items()
        }
    except psycopg.NotSupportedError:
        return None


def _count_trips(read: Read, connection: psycopg.Connection) -> int:
    """Count the messages ReadyForQuery: the server sends one when it waits for the client."""
    with TemporaryFile() as trace:
        connection.pgconn.trace(trace.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            read()
        finally:
            connection.pgconn.untrace()
        trace.seek(0)
        return trace.read().count(b"\tReadyForQuery\t")
