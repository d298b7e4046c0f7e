"""Demo data by the reference distribution: sql/seed.sql, sliced and run by several sessions."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psycopg

from scripts.address import Address
from scripts.database import connect
from scripts.errors import refuse
from scripts.settings import ROOT

SESSIONS = 2
SLICE = 20_000
"""Tasks in a transaction, about: bounds what a failure loses and how long a snapshot is held."""

IDS = {"tasks": 1, "conversations": 1, "messages": 8}
"""Ids that each table needs for a task; conversations and messages take their task's number."""


@dataclass(frozen=True)
class Seeded:
    """What was loaded: rows by table, and seconds it took."""

    rows: dict[str, int]
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """All rows over the seconds."""
        return sum(self.rows.values()) / self.seconds


def seed(
    address: Address,
    *,
    users: int,
    tasks: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Seeded:
    """Load users, tasks with their search rows, conversations and messages.

    The same numbers and seed give the same rows in an empty database, except for what the database
    sets: the users' times and a conversation's `updated_at`, which its messages move.

    Parameters
    ----------
    address : of the owner, with BYPASSRLS
    users, tasks : how many
    seed : chooses among data sets
    progress : told how many tasks were loaded, slice by slice

    Raises
    ------
    ToolError : the users of this seed are there already (code `not-empty`), or the schema is not
    psycopg.Error : anything else, such as a role under row security
    """
    load = Load.of(address, users=users, tasks=tasks, seed=seed)
    started = time.monotonic()
    try:
        rows = load.run(progress)
    except psycopg.errors.UniqueViolation:
        raise refuse(
            "not-empty",
            f"users of seed {seed} are there already, perhaps of a load that was interrupted",
            fix="another --seed, or python -m scripts reset",
        ) from None
    except psycopg.errors.UndefinedTable as error:
        message = str(error.diag.message_primary)
        raise refuse("sql", message, fix="python -m scripts migrate") from None
    return Seeded(rows, time.monotonic() - started)


@dataclass(frozen=True)
class Load:
    """One load: where, the parts of sql/seed.sql by name, and the numbers they are given."""

    address: Address
    queries: dict[str, str]
    plan: dict[str, int]

    @classmethod
    def of(cls, address: Address, *, users: int, tasks: int, seed: int) -> Load:
        """Return the load of so many users and tasks."""
        plan = {"users": users, "tasks": tasks, "heavy": max(1, users // 100), "seed": seed}
        return cls(address, read_parts(ROOT / "sql" / "seed.sql"), plan)

    def run(self, progress: Callable[[int], None]) -> dict[str, int]:
        """Load everything with several sessions; return the rows by table."""
        with self.session() as session:
            session.execute(self.queries["users"], self.plan)
            rows = Counter({"user": session.rowcount, **dict.fromkeys(IDS, 0)})
            offsets = {table: self._reserve(session, table) for table in IDS}
        rows.update(self.slices(offsets, progress))
        rows["task_search"] = rows["tasks"]
        with connect(self.address, purpose="seed") as connection:
            connection.execute(self.queries["analyze"])
        return dict(rows)

    def slices(
        self, offsets: dict[str, int], progress: Callable[[int], None], *, resume: bool = False
    ) -> Counter[str]:
        """Load the tables that `offsets` names, slice by slice; return the rows by table.

        Parameters
        ----------
        offsets : what is added to a task's number for its id, by table
        progress : told how many tasks were loaded
        resume : leave out slices whose first task is there already
        """
        count = -(-self.plan["tasks"] // SLICE)
        moments = [(i / count, (i + 1) / count) for i in range(count)]
        shares = [moments[i::SESSIONS] for i in range(SESSIONS)]
        rows: Counter[str] = Counter()
        stop = Event()
        with ThreadPoolExecutor(SESSIONS) as pool:
            try:
                load = partial(
                    self._load, offsets=offsets, progress=progress, resume=resume, stop=stop
                )
                for done in as_completed([pool.submit(load, share) for share in shares]):
                    rows.update(done.result())
            except BaseException:  # an interruption, or one session's error: the others end, too
                stop.set()
                raise
        return rows

    @contextmanager
    def session(self) -> Iterator[psycopg.ClientCursor[Any]]:
        """Open a session that knows each user's share, in the table `seed_user`."""
        with connect(self.address, purpose="seed") as connection:
            cursor = psycopg.ClientCursor(connection)  # CREATE TABLE AS takes no parameters
            cursor.execute(self.queries["prepare"])
            cursor.execute(self.queries["plan"], self.plan)
            yield cursor

    def _reserve(self, session: psycopg.ClientCursor[Any], table: str) -> int:
        count = max(1, self.plan["tasks"] * IDS[table])
        return _number(session.execute(self.queries["reserve"], {"table": table, "count": count}))

    def _load(
        self,
        moments: list[tuple[float, float]],
        *,
        offsets: dict[str, int],
        progress: Callable[[int], None],
        resume: bool,
        stop: Event,
    ) -> Counter[str]:
        """Load some slices in one session, each in a transaction; return the rows by table."""
        rows: Counter[str] = Counter()
        with self.session() as session:
            for start, end in moments:
                if stop.is_set():
                    break
                before = _number(session.execute(self.queries["before"], {"moment": start}))
                first = [offsets["tasks"] + before + 1]
                if resume and session.execute("select from tasks where id = %s", first).rowcount:
                    continue
                slice_ = {**self.plan, "start": start, "end": end, "before": before}
                loaded: dict[str, int] = {}
                with session.connection.transaction():
                    session.execute(self.queries["slice"], slice_)
                    for table, offset in offsets.items():
                        ids = {"offset": offset, "conversation": offsets.get("conversations")}
                        session.execute(self.queries[table], {**slice_, **ids})
                        loaded[table] = session.rowcount
                rows.update(loaded)
                progress(loaded["tasks"])
        return rows


def _number(cursor: psycopg.Cursor[Any]) -> int:
    row = cursor.fetchone()
    assert row
    return int(row[0] or 0)


def read_parts(file: Path) -> dict[str, str]:
    """Return the parts of an SQL file, each below its line `-- name: …`, by name."""
    parts = re.split(r"^-- name: (.+)\n", file.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
