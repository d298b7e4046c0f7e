"""What a design's reads touch and its writes log: buffers, WAL bytes, sizes and times, measured."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.settings import project
from scripts.workload.designs import Design
from scripts.workload.loader import Loader, sizes

LIMIT = 20
REPEATS = 5
WRITES = 400
"""Of each kind, each in a transaction of its own, on tasks of the whole table; fewer in a small
one, whose pages would otherwise be written again and again."""

SEARCHES = {
    "search": "zeppelin ",
    "search, two words": "broken violin ",
    "search, a phrase": '"urgent letter" -zeppelin',
    "search, a third of all": "report ",
}
"""What is typed, by the name of the figure; a budget's part bears the first's name."""

TEXT = "Look up how the lantern was mended before the orchard and the library are closed again."


@dataclass(frozen=True)
class Read:
    """One statement for one user: shared buffers, rows, median milliseconds."""

    statement: str
    user: str
    buffers: int
    rows: int
    ms: float


@dataclass(frozen=True)
class Write:
    """One kind of write: WAL bytes of the statement, mean, and median milliseconds with commit."""

    statement: str
    wal: int
    ms: float


@dataclass(frozen=True)
class Result:
    """All figures of one design at one size; bytes are per task, by relation.

    `grown` is their sum before the indexes were rebuilt; `load_wal` is per task, with what page
    splits cost in the long run.
    """

    design: str
    tasks: int
    reads: list[Read]
    writes: list[Write]
    sizes: dict[str, float]
    grown: float
    load_rows_per_second: int
    load_wal: int


def users(loader: Loader) -> dict[str, str]:
    """Return the ids of the users to ask for: a heavy one, the adversarial ones, a typical one."""
    with loader.load.session() as session:
        rows = session.execute(
            """
            select distinct on (1)
                coalesce(kind, case when heavy then 'heavy' else 'typical' end), id
            from seed_user
            order by 1, case when heavy then 0 else abs(tasks - 30) end, n
            """
        ).fetchall()
    order = ["heavy", "typical"]
    return dict(sorted(rows, key=lambda row: (*(row[0] != kind for kind in order), row[0])))


def tasks_of(loader: Loader, user: str) -> list[tuple[int, int, bool]]:
    """Return a user's tasks, newest first: id, rank of the priority, whether it has a due date."""
    query = """
        select id, array_position('{low,medium,high}', priority), due_date is not null
        from tasks
        where user_id = %s
        order by id desc
    """
    with connect(loader.load.address, purpose="bench") as connection:
        return connection.execute(query, [user]).fetchall()


def page(rows: list[tuple[int, int, bool]], offset: int, limit: int) -> dict[str, Any]:
    """Return what a statement is told to continue each list after so many of a user's tasks.

    Parameters
    ----------
    rows : the user's tasks, as `tasks_of` returns them
    offset : how many tasks come before, at least 1
    limit : tasks on a page
    """
    by_priority = sorted(rows, key=lambda row: (-row[1], -row[0]))[offset - 1]
    undated = sorted(number for number, _, dated in rows if not dated)
    before = offset - (len(rows) - len(undated))
    return {
        "limit": limit,
        "offset": offset,
        "newest_after": rows[offset - 1][0],
        "priority_after": by_priority[0],
        "priority_after_rank": by_priority[1],
        "undated_after": undated[before - 1] if before > 0 else 0,
    }


def measure(loader: Loader, design: Design) -> Result:
    """Load a design where that is not done, and measure it. What is written is rolled back."""
    loaded = loader.design(design)
    parameters = {}
    for kind, user in users(loader).items():
        rows = tasks_of(loader, user)
        offset = max(1, min(399 * LIMIT, len(rows) - LIMIT))
        parameters[kind] = {"user": user, "id": rows[offset][0], **page(rows, offset, LIMIT)}
    kinds = [part for part in design.parts if part.startswith("write ")]
    with _session(loaded.address, design) as session:
        reads = [
            session.read(name, statement, user, {**known, "typed": typed})
            for name, statement, typed in _reads(design)
            for user, known in parameters.items()
        ]
        writes = [session.write(*each) for each in zip(kinds, _tasks(loader), strict=False)]
    with connect(loaded.address, purpose="bench") as connection:
        bytes_per_task = {name: round(size / loader.tasks, 1) for name, size in sizes(connection)}
    return Result(
        design.name,
        loader.tasks,
        reads,
        writes,
        bytes_per_task,
        round(loaded.grown, 1),
        round(loaded.rows_per_second),
        round(loaded.wal),
    )


def _reads(design: Design) -> Iterator[tuple[str, str, str]]:
    """Yield each read: its name, its statement, and what is typed."""
    for name, statement in design.parts.items():
        if name == "search":
            for search, typed in SEARCHES.items():
                yield search, statement, typed
        elif not re.match("load |write |session$", name):
            yield name, statement, ""


def _tasks(loader: Loader) -> Iterator[list[tuple[str, int]]]:
    """Yield, for each kind of write, tasks of its own: half of them open, half completed.

    They are spread over the users: many new tasks of few users in a row would split, in the indexes
    that were just rebuilt, the page at the end of each one's range.
    """
    half = max(10, min(WRITES, loader.tasks // 250) // 2)
    query = """
        select user_id, id
        from tasks
        where (status = 'completed') = %s and hashint8extended(id, 1) %% %s = 0
        order by
            row_number() over (partition by user_id order by hashint8extended(id, 2)),
            hashint8extended(id, 3)
        limit %s
    """
    with connect(loader.load.address, purpose="bench") as connection:
        open_, completed = (
            connection.execute(
                query, [state, max(1, loader.tasks // 100_000), 10 * half]
            ).fetchall()
            for state in (False, True)
        )
    for start in range(0, 10 * half, half):
        pairs = zip(open_[start : start + half], completed[start : start + half], strict=False)
        yield [task for pair in pairs for task in pair]


@dataclass(frozen=True)
class Session:
    """A session as the application's role, or as the owner where a design has no tenants."""

    connection: psycopg.Connection
    parts: dict[str, str]

    def read(self, name: str, statement: str, user: str, values: dict[str, Any]) -> Read:
        """Explain and run one statement, several times."""
        cursor = psycopg.ClientCursor(self.connection)  # EXPLAIN takes no parameters
        explain = f"explain (analyze, buffers, timing off, format json) {statement}"
        with self.connection.transaction(force_rollback=True):
            self._enter(values)
            runs = [
                row[0][0]
                for _ in range(REPEATS)
                for row in cursor.execute(explain, values).fetchall()
            ]
        plan = runs[-1]["Plan"]
        buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        ms = median(run["Execution Time"] for run in runs)
        return Read(name, user, buffers, int(plan["Actual Rows"]), round(ms, 3))

    def write(self, name: str, tasks: list[tuple[str, int]]) -> Write:
        """Run one kind of write once for each task, each in a transaction that is rolled back."""
        position = "select pg_current_wal_insert_lsn() - '0/0'"
        total, times = 0, []
        for number, (user, task) in enumerate(tasks):
            values = {
                "user": user,
                "id": task,
                "title": f"Return the {number} borrowed lanterns",
                "description": f"{number} of them. {TEXT}",
            }
            with self.connection.transaction(force_rollback=True):
                self._enter(values)
                (before,) = self.connection.execute(position).fetchone() or (0,)
                started = time.perf_counter()
                done = self.connection.execute(self.parts[name].encode(), values)
                if done.rowcount != 1:
                    raise refuse(
                        "bad-design",
                        f"part {name}: it wrote {done.rowcount} rows, not the one it was given",
                        fix="mend it; scripts/README.md tells what a part is given",
                    )
                times.append(time.perf_counter() - started)
                (after,) = self.connection.execute(position).fetchone() or (0,)
            total += after - before
        name = name.removeprefix("write ")
        return Write(name, round(total / len(tasks)), round(median(times) * 1e3, 3))

    def _enter(self, values: dict[str, Any]) -> None:
        if session := self.parts.get("session"):
            self.connection.execute(session.encode(), values)


@contextmanager
def _session(address: Address, design: Design) -> Iterator[Session]:
    role = project().application_role if "session" in design.parts else project().local_owner
    with psycopg.connect(**address.with_(user=role).parameters) as connection:
        yield Session(connection, design.parts)
