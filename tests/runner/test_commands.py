"""The migration commands as a user runs them: what is printed, the exit status, what survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.runner import seal as sealing
from scripts.runner.files import read_migrations
from scripts.runner.ledger import read_applied
from scripts.settings import ROOT
from tests.support.commands import run, run_json
from tests.support.pgbouncer import pgbouncer

Connection = psycopg.Connection[Any]
A = ("create table a (id int primary key)", "-- data-loss: the rows of a\ndrop table a")
B = ("create table b (id int primary key)", "drop table b")
WAITING = "set local lock_timeout = '20s';\nselect pg_advisory_xact_lock(7)"
SLOW = "create table slow (id int primary key);\nselect pg_sleep(60);\ncreate table late ()"


class Checkout:
    """A project with migrations of its own and the tools copied into it, and a database for it."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self.address = folder, address
        self.migrations, self.roles = folder / "migrations", folder / "sql/roles.sql"
        for made in (self.migrations, self.roles.parent):
            made.mkdir()
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.roles.write_text("select 1")
        # As a database that is not the local server's, with all that is refused there.
        self.environment = {
            "MIGRATION_DATABASE_URL": address.url,
            "SCHEMA_LOCAL_DIR": str(folder / "no-server"),
        }

    def write(self, files: dict[str, tuple[str, str] | str], *, seal: bool = True) -> None:
        for id_, content in files.items():
            forward, rollback = content if isinstance(content, tuple) else (content, "select 1")
            (self.migrations / f"{id_}.sql").write_text(forward)
            (self.migrations / f"{id_}.rollback.sql").write_text(rollback)
        if seal:
            sealing.seal(read_migrations(self.migrations), self.migrations, self.applied())

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, cwd=self.folder, **self.environment)

    def json(self, *arguments: str) -> Any:
        return run_json(*arguments, cwd=self.folder, **self.environment)

    def events(self, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "scripts", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tables(self) -> set[str]:
        with connect(self.address, purpose="test") as connection:
            query = "select tablename from pg_tables where schemaname = 'public'"
            names = {name for (name,) in connection.execute(query)}
        return {name for name in names if "yoyo" not in name} - {"migration_history"}

    def applied(self) -> list[str]:
        with connect(self.address, purpose="test") as connection:
            return list(read_applied(connection))


@pytest.fixture
def checkout(tmp_path: Path, scratch: Address) -> Checkout:
    return Checkout(tmp_path, scratch)


@pytest.fixture
def watcher(scratch: Address) -> Iterator[Connection]:
    with connect(scratch, purpose="watcher") as connection:
        yield connection


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return value


def sleeping(watcher: Connection) -> Any:
    """The process that runs the statement where `SLOW` or `WAITING` takes its time."""
    return watcher.execute(
        "select pid from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
        " and query ~ '^select pg_(sleep|advisory_xact_lock)'"
    ).fetchone()


@pytest.mark.row("R10")
def test_plan_prints_the_exact_sql_in_order_and_changes_nothing(checkout: Checkout) -> None:
    checkout.write({"0001.a-a": A, "0002.b-b": B})
    file = "migrations/0001.a-a.sql"
    done = checkout.run("plan")
    assert done.returncode == 0
    assert done.stdout == f"-- {file}\n\n{A[0]}\n\n-- migrations/0002.b-b.sql\n\n{B[0]}\n\n"
    assert checkout.json("plan", "--to", "0001")["pending"] == [
        {"id": "0001.a-a", "file": file, "transactional": True, "sql": A[0]}
    ]
    with connect(checkout.address, purpose="test") as connection:
        query = "select count(*) from pg_tables where schemaname = 'public'"
        assert connection.execute(query).fetchone() == (0,)


@pytest.mark.row("R9", "R10")
def test_migrate_and_rollback_tell_each_file_in_text_and_in_events(checkout: Checkout) -> None:
    checkout.write({"0001.a-a": A, "0002.b-b": B}, seal=False)
    assert checkout.run("seal").stdout == "0001.a-a\n0002.b-b\n"
    lines = [line.split() for line in checkout.run("migrate").stdout.splitlines()]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("applied", "0001.a-a", "ms"),
        ("applied", "0002.b-b", "ms"),
    ]
    again = checkout.run("migrate")
    assert (again.returncode, again.stdout) == (0, "nothing to do: every migration is applied\n")
    (refused,) = checkout.events("rollback", "--to", "0000")
    assert (refused["event"], refused["findings"][0]["code"]) == ("error", "data-loss")
    down = checkout.events("rollback", "--to", "0000", "--accept-data-loss")
    told = [(event["event"], event.get("id")) for event in down if event["event"] != "reverting"]
    assert told == [
        ("reverted", "0002.b-b"),
        ("data-loss", "0001.a-a"),
        ("reverted", "0001.a-a"),
        ("done", None),
    ]
    up = checkout.events("migrate")
    assert [event["event"] for event in up] == [*(["applying", "applied"] * 2), "done"]
    assert all(event["v"] == 1 and event["at"] for event in up)
    assert up[-1]["applied"] == ["0001.a-a", "0002.b-b"]


@pytest.mark.row("R10")
def test_status_and_history_tell_what_is_applied_and_by_whom(checkout: Checkout) -> None:
    checkout.write({"0001.a-a": A, "0002.b-b": B})
    checkout.run("migrate", "--to", "0001")
    (entry,) = checkout.json("history")["entries"]
    assert (entry["operation"], entry["migration_id"]) == ("apply", "0001.a-a")
    assert entry["application"] == "schema-migrate"
    assert entry["git_commit"] is None  # this project is no checkout of git
    assert "0001.a-a" in checkout.run("history").stdout
    document = checkout.json("status")
    assert document["ok"] is True
    assert [row["id"] for row in document["applied"]] == ["0001.a-a"]
    assert document["pending"] == ["0002.b-b"]
    assert checkout.run("status").returncode == 0
    assert checkout.run("status", "--check").returncode == 3
    (checkout.migrations / "0001.a-a.sql").write_text("select 2")
    assert checkout.run("status", "--check").returncode == 1
    assert "edited" in [f["code"] for f in checkout.json("status")["findings"]]


@pytest.mark.row("R10")
def test_new_then_plan_leads_from_a_name_to_a_migration(checkout: Checkout) -> None:
    checkout.write({"0007.a-a": A})
    assert checkout.json("new", "add-tasks-note")["files"] == [
        "migrations/0008.add-tasks-note.sql",
        "migrations/0008.add-tasks-note.rollback.sql",
    ]
    # What was only begun is refused, not applied as an empty file.
    done = checkout.run("plan")
    assert done.returncode == 1
    assert "migrations/0008.add-tasks-note.sql: holds no statement" in done.stderr
    wrong = checkout.run("new", "Add tasks; note")
    assert wrong.returncode == 2
    assert "verb-object" in wrong.stderr


def test_an_error_is_shown_with_its_line_and_what_is_applied(checkout: Checkout) -> None:
    broken = "create table b ();\n\nalter table b drop column c;"
    checkout.write({"0001.a-a": A, "0002.b-b": broken})
    last = checkout.events("migrate")[-1]
    assert (last["event"], last["applied"]) == ("error", ["0001.a-a"])
    done = checkout.run("migrate")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "error: migrations/0002.b-b.sql:3: column 1: "
        'column "c" of relation "b" does not exist (42703)',
        "    alter table b drop column c;",
    ]
    assert done.stderr.splitlines()[-1].startswith("  fix: ")
    assert checkout.tables() == {"a"}
    checkout.roles.write_text("select 1;\nselect nonsense;\n")
    done = checkout.run("migrate")
    assert done.returncode == 1
    assert done.stderr.startswith("error: sql/roles.sql:2: column 8: ")


@pytest.mark.matrix
@pytest.mark.row("R9")
def test_a_second_migrate_waits_for_the_first(checkout: Checkout, watcher: Connection) -> None:
    checkout.write({"0001.a-a": WAITING})
    watcher.execute("select pg_advisory_lock(7)")
    with checkout.start("migrate") as first:
        (pid,) = wait_for(lambda: sleeping(watcher))
        refused = checkout.run("migrate", "--lock-wait", "0.3", "--json")
        with checkout.start("migrate") as second:
            assert second.stdout
            told = second.stdout.readline()
            watcher.execute("select pg_advisory_unlock(7)")
            output, _ = second.communicate(timeout=20)
    assert refused.returncode == 1
    waiting, error = map(json.loads, refused.stdout.splitlines())
    assert (waiting["event"], error["event"]) == ("waiting", "error")
    (finding,) = error["findings"]
    held = f"another run holds the migration lock: process {pid}, schema-migrate"
    assert finding["code"] == "locked"
    assert finding["message"].startswith(held)
    assert (first.returncode, second.returncode) == (0, 0)
    assert told.startswith("waiting for the migration lock: process ")
    assert output == "nothing to do: every migration is applied\n"
    assert checkout.applied() == ["0001.a-a"]


@pytest.mark.row("R9")
@pytest.mark.parametrize(
    ("how", "status"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 130), ("the server goes", 1)],
)
def test_a_run_that_is_stopped_in_a_file_leaves_nothing_of_it(
    checkout: Checkout, watcher: Connection, how: signal.Signals | str, status: int
) -> None:
    checkout.write({"0001.a-a": A, "0002.b-b": SLOW})
    with checkout.start("migrate") as process:
        (pid,) = wait_for(lambda: sleeping(watcher))
        if isinstance(how, signal.Signals):
            process.send_signal(how)
        else:
            watcher.execute("select pg_terminate_backend(%s)", [pid])
        _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in errors
    if status == 1:
        assert errors.startswith("error: migrations/0002.b-b.sql:2:")
    free = "select count(*) = 0 from pg_locks where locktype = 'advisory'"
    wait_for(lambda: watcher.execute(free).fetchone() == (True,), seconds=10)
    assert checkout.tables() == {"a"}
    assert checkout.applied() == ["0001.a-a"]
    checkout.write({"0002.b-b": B})
    assert checkout.run("migrate").returncode == 0
    assert checkout.tables() == {"a", "b"}


def test_another_roles_address_is_told_in_text_and_in_json(checkout: Checkout) -> None:
    checkout.write({"0001.a-a": A})
    checkout.run("migrate")
    with connect(checkout.address, purpose="test") as connection:
        connection.execute(
            "do $$ begin create role stranger login; exception when duplicate_object then end $$"
        )
    checkout.environment["MIGRATION_DATABASE_URL"] = checkout.address.with_(user="stranger").url
    done = checkout.run("status")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: permission denied for table _yoyo_migration (42501)",
        "  fix: connect as the owner",
    ]
    assert checkout.json("status")["findings"][0]["code"] == "database"


@pytest.mark.row("R9")
def test_a_pooler_is_refused(checkout: Checkout, scratch: Address) -> None:
    checkout.write({"0001.a-a": A})
    with pgbouncer(scratch) as pooled:
        checkout.environment["MIGRATION_DATABASE_URL"] = pooled.url
        done = checkout.run("migrate")
    assert done.returncode == 1
    assert "is a connection pooler" in done.stderr
    assert checkout.tables() == set()


def test_without_the_tools_libraries_the_way_out_is_told(checkout: Checkout) -> None:
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-S", "-m", "scripts", "status"],
        cwd=checkout.folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the tools are not installed\n  fix: make setup\n"
