"""Designs under load: a mix of reads and writes by many clients that share one pool."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, as_completed, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from random import Random
from threading import Event
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from scripts.database import connect
from scripts.errors import Finding, refuse
from scripts.settings import project
from scripts.workload.bench import LIMIT, SEARCHES, TEXT, page
from scripts.workload.designs import Design
from scripts.workload.loader import Loader

READS = {
    "get one": 18, "open by priority": 18, "newest": 16, "open newest": 10, "counts": 6,
    "by due date": 4, "open by due date": 4, "search": 4, "pending newest": 2,
    "in progress newest": 2, "by tag": 2, "completed newest": 1, "all by priority": 1,
    "by title": 1, "newest, page 400": 1,
}  # fmt: skip
WRITES = {
    "write insert": 2, "write delete": 2, "write toggle": 2, "write title": 1,
    "write description": 1, "write tags": 1, "write priority": 0.5, "write due date": 0.5,
}  # fmt: skip
"""Of a hundred transactions, how many each part gets: 90 reads and 10 writes."""

SIZE, OVERFLOW, TIMEOUT = 5, 10, 10.0
"""Of the pool, as the package's engine has them: at most 15 connections, and seconds to wait."""

REST = 0.001
"""Seconds between a client's transactions, where the others would else not get its connection."""

LIMITS, PATIENCE = "-c statement_timeout=30s -c lock_timeout=5s", 60
"""The application's role's, for every session, and seconds that the last transactions may take."""

COPY = "copy"
"""The database that is written to; a design's own ends with its number of tasks."""

USERS = "select user_id, count(*) from tasks group by user_id order by user_id"
TASKS = """
select user_id, id, array_position('{low,medium,high}', priority), due_date is not null
from tasks where user_id = any (%s) order by id desc
"""
WAITING = """
select pid, query_start from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""
END_OTHERS = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
"""
FIGURES = """
select
    round(max(n_tup_hot_upd / nullif(n_tup_upd, 0.0)) filter (where relname = 'tasks'), 3)::float8,
    sum(n_dead_tup)::bigint,
    (select deadlocks from pg_stat_database where datname = current_database())
from pg_stat_user_tables
"""


@dataclass(frozen=True)
class Result:
    """What one design did for one number of clients; times are None where there were none.

    Parameters
    ----------
    reads, writes : `p50_ms` and `p99_ms`, from the wait for the pool (`wait_p99_ms`) to the commit
    hot : of the updates of tasks, the share that no index heard of; None without any
    dead_rows : left in all its tables, none of which was vacuumed
    lock_waits : statements that were seen waiting for a lock
    errors : failed transactions by SQLSTATE, or by the error's name where it has none
    """

    design: str
    clients: int
    transactions: int
    per_second: float
    reads: dict[str, float | None]
    writes: dict[str, float | None]
    pool: dict[str, float | None]
    hot: float | None
    dead_rows: int
    lock_waits: int
    deadlocks: int
    errors: dict[str, int]


Aim = tuple[dict[str, Any], list[int]]
"""A user to act for: what every part is told, and the ids of the tasks to choose from."""


@dataclass(frozen=True)
class Clients:
    """Clients of one design, and what they saw: seconds, connections in use, errors.

    Parameters
    ----------
    count : how many clients
    aims : the users; who is there twice acts twice as often
    """

    design: Design
    count: int
    aims: list[Aim]
    pool: QueuePool
    stop: Event = field(default_factory=Event)
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"reads": [], "writes": [], "waits": []}
    )
    in_use: list[int] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def run(self, seed: int) -> None:
        """Be one client, which asks the pool for a connection for each transaction."""
        random, parts = Random(seed), weights(self.design)  # noqa: S311 (no secret)
        begin = f"begin; {self.design.parts.get('session', '')}".encode()  # as the package does
        while not self.stop.is_set():
            (part,) = random.choices(list(parts), list(parts.values()))
            (aim, ids), number = random.choice(self.aims), random.randrange(1_000_000)
            values = {
                **aim,
                "id": random.choice(ids),
                "typed": random.choice(list(SEARCHES.values())),
                "title": f"Return the {number} borrowed lanterns",
                "description": f"{number} of them. {TEXT}",
            }
            started = time.perf_counter()
            try:
                with closing(self.pool.connect()) as held:
                    self.seconds["waits"].append(time.perf_counter() - started)
                    self.in_use.append(self.pool.checkedout())
                    connection: Any = held.driver_connection
                    try:
                        psycopg.ClientCursor(connection).execute(begin, values)
                        cursor = connection.execute(self.design.parts[part].encode(), values)
                        if cursor.description:
                            cursor.fetchall()
                        connection.commit()
                    except psycopg.Error:
                        held.invalidate()  # it may be lost, which the pool would print
                        raise
                    kind = "writes" if part in WRITES else "reads"
                    self.seconds[kind].append(time.perf_counter() - started)
            except (psycopg.Error, PoolTimeoutError) as error:
                state = getattr(error, "sqlstate", None) or type(error).__name__
                self.errors.append((state, f"{part}: {str(error).partition(chr(10))[0]}"))
            time.sleep(REST if self.count > SIZE + OVERFLOW else 0)

    def ms(self, kind: str, share: float) -> float | None:
        """Return a quantile of the seconds of a kind, in milliseconds."""
        seconds = sorted(self.seconds[kind])
        return round(1e3 * seconds[int(share * len(seconds))], 3) if seconds else None


def weights(design: Design) -> dict[str, float]:
    """Return a design's parts by weight; what it lacks is spread over its other reads or writes."""
    found: dict[str, float] = {}
    for share, kind in ((90, READS), (10, WRITES)):
        known = {part: weight for part, weight in kind.items() if part in design.parts}
        found |= {part: share * known[part] / sum(known.values()) for part in known}
    return found


def read_aims(loader: Loader) -> list[Aim]:
    """Return 200 users drawn in proportion to their tasks, so heavy ones mostly, and 200 evenly."""
    random, rows = Random(1), defaultdict(list)  # noqa: S311 (no secret)
    with connect(loader.load.address, purpose="bench") as connection:
        users, counts = zip(*connection.execute(USERS), strict=True)
        drawn = [*random.choices(users, counts, k=200), *random.choices(users, k=200)]
        for user, *row in connection.execute(TASKS, [list(set(drawn))]):
            rows[user].append(tuple(row))
    aims = {}
    for user, tasks in rows.items():
        offset = max(1, min(399 * LIMIT, len(tasks) - LIMIT))
        aims[user] = {"user": user, **page(tasks, offset, LIMIT)}, [task[0] for task in tasks]
    return [aims[user] for user in drawn]


def measure(
    loader: Loader, designs: Sequence[Design], *, clients: Sequence[int], seconds: float
) -> Iterator[tuple[Result, list[Finding]]]:
    """Load designs where that is not done, and put each under load; yield what is wrong, too."""
    for design in designs:
        if not weights(design):
            raise refuse("bad-design", f"{design.name}: it has no part of the mix", fix="write one")
    loader.reference()
    loaded = [(design, loader.design(design).address) for design in designs]
    aims = read_aims(loader)
    for count, (design, address) in product(clients, loaded):
        user = project().application_role if "session" in design.parts else project().local_owner
        where = address.with_(dbname=COPY, user=user, options=LIMITS)
        connecting: Any = partial(psycopg.connect, **where.parameters, autocommit=True)
        pool = QueuePool(connecting, pool_size=SIZE, max_overflow=OVERFLOW, timeout=TIMEOUT)
        group = Clients(design, count, aims, pool)
        try:  # An interruption drops the copy first, and with it what the threads wait for.
            with ThreadPoolExecutor(count + 1) as threads, _copy(loader, address.database) as copy:
                yield _run(threads, copy, group, seconds)
        finally:
            pool.dispose()
        loader.progress("load", 1, len(clients) * len(loaded))


def _run(
    threads: ThreadPoolExecutor, copy: psycopg.Connection, group: Clients, seconds: float
) -> tuple[Result, list[Finding]]:
    """Let the clients run; return what is wrong, too."""
    started = time.monotonic()
    try:
        watching = threads.submit(_watch, copy, group.stop)
        running = [threads.submit(group.run, seed) for seed in range(group.count)]
        wait(running, timeout=seconds, return_when=FIRST_EXCEPTION)
    finally:
        group.stop.set()
    for each in as_completed(running, timeout=PATIENCE):
        each.result()
    took = time.monotonic() - started
    kept = group.pool.checkedout()
    lock_waits = watching.result(timeout=PATIENCE)
    copy.execute(END_OTHERS)  # who has gone has told its statistics
    ((hot, dead_rows, deadlocks),) = copy.execute(FIGURES).fetchall()
    count = len(group.seconds["reads"]) + len(group.seconds["writes"])
    errors = Counter(state for state, _ in group.errors)
    result = Result(
        design=group.design.name,
        clients=group.count,
        transactions=count,
        per_second=round(count / took, 1),
        reads={"p50_ms": group.ms("reads", 0.5), "p99_ms": group.ms("reads", 0.99)},
        writes={"p50_ms": group.ms("writes", 0.5), "p99_ms": group.ms("writes", 0.99)},
        pool={"wait_p99_ms": group.ms("waits", 0.99), "most_in_use": max(group.in_use, default=0)},
        hot=hot,
        dead_rows=dead_rows,
        lock_waits=lock_waits,
        deadlocks=deadlocks,
        errors=dict(errors),
    )
    wrong = [("deadlock", deadlocks, "deadlocks"), ("pool-leak", kept, "connections not returned")]
    for state, told in dict(group.errors).items():
        wrong.append(("load-error", errors[state], f"times {state}, {told}"))
    name, fix = f"{result.design}, {group.count} clients", "the bench server's log tells more"
    return result, [Finding(code, f"{name}: {n:,} {what}", fix=fix) for code, n, what in wrong if n]


@contextmanager
def _copy(loader: Loader, template: str) -> Iterator[psycopg.Connection]:
    """Copy a database; give the superuser's connection to the copy; drop it, whatever happens."""
    server, owner = loader.server, project().local_owner
    statement = sql.SQL("create database {} owner {} template {} strategy file_copy")
    server.drop_database(COPY)  # of a run that was killed
    try:
        with connect(server.superuser, purpose="bench") as connection:
            connection.execute(statement.format(*map(sql.Identifier, (COPY, owner, template))))
        inside = server.superuser.with_(dbname=COPY, options=LIMITS)
        with connect(inside, purpose="bench") as connection:
            connection.execute("select pg_stat_reset()")
            yield connection
    finally:
        server.drop_database(COPY)


def _watch(connection: psycopg.Connection, stop: Event) -> int:
    """Count the statements that are seen waiting for a lock until it is to stop."""
    seen: set[tuple[Any, ...]] = set()
    while not stop.wait(0.05):
        seen.update(connection.execute(WAITING).fetchall())
    return len(seen)
