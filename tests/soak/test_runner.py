"""The runner for long: killed at any moment, and with thousands of files."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.runner.ledger import read_applied, read_history
from scripts.runner.run import migrate
from scripts.runner.state import read_state
from tests.runner.test_commands import Checkout, wait_for

pytestmark = pytest.mark.soak

ROUNDS = int(os.environ.get("SOAK", "20"))

# A table, rows, and indexes that take a while, in turn: a kill falls into each kind of file, into
# its record and between files.
FILES = {
    "0001.create-t1": "create table t1 (x bigint); create table t1_twin (x bigint)",
    "0002.fill-t1": "insert into t1 select generate_series(1, 200000); "
    "insert into t1_twin select x from t1",
    "0003.index-t1": "-- transactional: false\n"
    "create index concurrently if not exists i3 on t1 ((x * 7 % 1000), x)",
    "0004.create-t4": "create table t4 (x bigint); select pg_sleep(0.2); create table t4_twin ()",
    "0005.index-t1-again": "-- transactional: false\n"
    "create unique index concurrently if not exists i5 on t1 (x)",
    "0006.drop-index": "-- transactional: false\ndrop index concurrently if exists i3",
    "0007.create-t7": "create table t7 (x bigint); select pg_sleep(0.2); create table t7_twin ()",
}


def check_nothing_is_half_done(connection: psycopg.Connection[Any]) -> None:
    """Each file's effects are all there and recorded, or none is; once, and in order."""
    marks = list(read_applied(connection))
    assert marks == list(FILES)[: len(marks)]
    applied = [row["migration_id"] for row in reversed(read_history(connection, 100))]
    assert applied == marks
    query = (
        "select relname::text, coalesce(indisvalid, true) from pg_class "
        "left join pg_index on indexrelid = pg_class.oid "
        "where relnamespace = 'public'::regnamespace"
    )
    relations = dict(connection.execute(query).fetchall())
    for number, twins in {
        "1": ("t1", "t1_twin"),
        "4": ("t4", "t4_twin"),
        "7": ("t7", "t7_twin"),
    }.items():
        there = any(mark.startswith(f"000{number}") for mark in marks)
        assert [twin in relations for twin in twins] == [there, there]
    if "t1" in relations:
        filled = "0002.fill-t1" in marks
        for table in ("t1", "t1_twin"):
            count = connection.execute(f"select count(*) from {table}").fetchone()
            assert count == (200000 if filled else 0,)
    if "0005.index-t1-again" in marks:
        assert relations["i5"] is True
    if "0006.drop-index" in marks:
        assert "i3" not in relations
    elif "0003.index-t1" in marks and len(marks) < 5:
        assert relations["i3"] is True


def test_a_run_killed_at_any_moment_goes_on_where_it_was(tmp_path: Path, scratch: Address) -> None:
    checkout = Checkout(tmp_path, scratch)
    checkout.write(dict(FILES))
    chance = random.Random(1)
    kills = 0
    with connect(scratch, purpose="watcher") as watcher:

        def holds() -> bool:
            query = "select count(*) > 0 from pg_locks where locktype = 'advisory'"
            return watcher.execute(query).fetchone() == (True,)

        for _ in range(ROUNDS):
            done = False
            while not done:
                with checkout.start("migrate") as process:
                    wait_for(lambda process=process: holds() or process.poll() is not None)
                    try:
                        process.wait(chance.uniform(0, 0.8))
                    except subprocess.TimeoutExpired:
                        process.kill()
                        kills += 1
                    process.communicate()
                wait_for(lambda: not holds())
                check_nothing_is_half_done(watcher)
                assert process.returncode in (0, -9)
                done = process.returncode == 0
            assert list(read_applied(watcher)) == list(FILES)
            watcher.execute("drop schema public cascade")
            watcher.execute("create schema public")
    print(f"{kills} kills in {ROUNDS} rounds")
    assert kills >= ROUNDS


def test_two_thousand_migrations(tmp_path: Path, scratch: Address) -> None:
    for number in range(1, 2001):
        (tmp_path / f"{number:04}.create-t{number}.sql").write_text(f"create table t{number} ()")
    with connect(scratch, purpose="test") as connection:
        started = time.monotonic()
        assert len(migrate(connection, tmp_path, check_seal=False)) == 2000
        print(f"2,000 migrations in {time.monotonic() - started:.1f} s")
        started = time.monotonic()
        assert read_state(connection, tmp_path).pending == []
        print(f"their state in {time.monotonic() - started:.2f} s")
