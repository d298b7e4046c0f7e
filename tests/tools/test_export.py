"""Export: what other programs read, all of one moment, under names that any file system holds."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.backup.archive import backup, restore
from scripts.backup.export import export, file_name
from scripts.database import connect
from scripts.errors import ToolError
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project
from tests.runner.test_commands import wait_for
from tests.support.commands import run_here, run_json
from tests.tools.test_backup_runs import start

pytestmark = pytest.mark.row("R28")

ACCOUNTS = """
create table one (id int primary key, amount int not null);
create table two (like one including all);
insert into one select i, 100 from generate_series(1, 20000) as i;
insert into two select i, 100 from generate_series(1, 20000) as i;
"""


def quiet(name: str, count: int, total: int | None) -> None:
    """Take progress and show it to nobody."""


def execute(address: Address, statements: str) -> None:
    with connect(address, purpose="test") as connection:
        connection.execute(statements.encode())


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_each_table_is_a_file_and_the_manifest_proves_it(migrated: Address, tmp_path: Path) -> None:
    execute(migrated, "insert into \"user\" (id, name, email) values ('u', 'Ü \"x\", y', 'a@b.c')")
    execute(migrated, "insert into tasks (user_id, title) values ('u', E'two\\nlines')")
    folder = tmp_path / "out"
    told = run_json("export", str(folder), MIGRATION_DATABASE_URL=migrated.url)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert told["folder"] == str(folder)
    assert manifest["tables"] == told["tables"]
    assert manifest["database"] == migrated.database
    with connect(migrated, purpose="test") as connection:
        query = "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = "
        query += (
            "'public'::regnamespace and relname !~ '^_?yoyo' and relname <> 'migration_history'"
        )
        names = {name for (name,) in connection.execute(query.encode())}
    assert {each["table"] for each in told["tables"]} == names
    files = {each["file"] for each in told["tables"]}
    assert files | {"manifest.json"} == {path.name for path in folder.iterdir()}
    for each in told["tables"]:
        content = (folder / each["file"]).read_bytes()
        assert each["bytes"] == len(content)
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert each["rows"] == len(read(folder / each["file"]))
    assert [row["name"] for row in read(folder / "user.csv")] == ['Ü "x", y']
    assert [row["title"] for row in read(folder / "tasks.csv")] == ["two\nlines"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.csv")} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_nothing_and_an_empty_text_differ(scratch: Address, tmp_path: Path) -> None:
    execute(scratch, "create table t (a text, b timestamptz)")
    execute(
        scratch, "insert into t values (null, '2024-01-02 03:04+05'), ('', null), ('NULL', null)"
    )
    execute(scratch, f"alter database {scratch.database} set datestyle = 'German'")
    export(scratch, tmp_path / "out", progress=quiet)
    assert (tmp_path / "out" / "t.csv").read_text().splitlines() == [
        "a,b",
        ",2024-01-01 22:04:00+00",
        '"",',
        "NULL,",
    ]


NAMES = {
    "tasks": "tasks.csv",
    "a/b": "a%2Fb.csv",
    "..": "%2E%2E.csv",
    "a%2Fb": "a%252%46b.csv",
    "A": "%41.csv",
    "ü": "%C3%BC.csv",
    "-rf": "%2Drf.csv",
    "manifest.json": "manifest%2Ejson.csv",
}


def test_every_table_has_a_file_name_of_its_own(scratch: Address, tmp_path: Path) -> None:
    assert {name: file_name(name) for name in NAMES} == NAMES
    for number, name in enumerate(NAMES):
        execute(scratch, f'create table "{name}" (x int); insert into "{name}" values ({number})')
    export(scratch, tmp_path / "out", progress=quiet)
    found = {path.name: read(path) for path in (tmp_path / "out").glob("*.csv")}
    assert found == {file: [{"x": str(number)}] for number, file in enumerate(NAMES.values())}


def test_a_partition_and_an_heir_are_written_once(scratch: Address, tmp_path: Path) -> None:
    execute(
        scratch,
        "create table p (x int) partition by list (x); create table p1 partition of p default;"
        "create table parent (x int); create table heir () inherits (parent);"
        "insert into p values (1); insert into parent values (2); insert into heir values (3)",
    )
    told = export(scratch, tmp_path / "out", progress=quiet)
    assert {each["table"]: each["rows"] for each in told} == {"p1": 1, "parent": 1, "heir": 1}


def test_a_folder_that_exists_is_refused_before_anything_starts(tmp_path: Path) -> None:
    nobody = "postgresql://x@127.0.0.1:1/x"
    done = run_here("export", str(tmp_path), "--json", MIGRATION_DATABASE_URL=nobody)
    assert json.loads(done.stdout)["findings"][0]["code"] == "exists"
    assert list(tmp_path.iterdir()) == []


class Mover(threading.Thread):
    """Somebody who moves amounts between the two tables all the while."""

    def __init__(self, address: Address) -> None:
        super().__init__(daemon=True)
        self.address, self.moved, self.done = address, 0, threading.Event()

    def run(self) -> None:
        chance = random.Random(3)
        with connect(self.address, purpose="mover") as connection:
            while not self.done.is_set():
                id_, amount = chance.randint(1, 20000), chance.randint(1, 100)
                with connection.transaction():
                    connection.execute(
                        "update two set amount = amount + %s where id = %s", [amount, id_]
                    )
                    connection.execute(
                        "update one set amount = amount - %s where id = %s", [amount, id_]
                    )
                self.moved += 1


@pytest.fixture
def moving(scratch: Address) -> Any:
    execute(scratch, ACCOUNTS)
    mover = Mover(scratch)
    mover.start()
    wait_for(lambda: mover.moved)
    yield mover
    mover.done.set()
    mover.join(10)


def test_tables_agree_while_others_write(scratch: Address, moving: Mover, tmp_path: Path) -> None:
    for number in range(5):
        before = moving.moved
        folder = tmp_path / str(number)
        export(scratch, folder, progress=quiet)
        assert moving.moved > before
        amounts = [
            int(row["amount"]) for name in ("one", "two") for row in read(folder / f"{name}.csv")
        ]
        assert sum(amounts) == 4_000_000


def test_a_backup_is_equal_and_its_tables_agree_while_others_write(
    server: LocalServer, scratch: Address, moving: Mover, tmp_path: Path
) -> None:
    before = moving.moved
    backup(scratch, tmp_path / "file", progress=quiet)
    assert moving.moved > before
    with scratch_database(server) as copy:
        restore(copy, tmp_path / "file", roles=project().roles, progress=quiet)
        with connect(copy, purpose="test") as connection:
            query = "select (select sum(amount) from one) + (select sum(amount) from two)"
            assert connection.execute(query).fetchone() == (4_000_000,)


def test_a_table_is_not_emptied_in_between(scratch: Address, tmp_path: Path) -> None:
    execute(scratch, ACCOUNTS)

    def empty_the_next(name: str, count: int, total: int | None) -> None:
        with (
            connect(scratch, purpose="test") as connection,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            connection.execute("set lock_timeout = '50ms'")
            connection.execute("truncate two")

    told = export(scratch, tmp_path / "out", progress=empty_the_next)
    assert [each["rows"] for each in told] == [20000, 20000]


def test_a_killed_export_leaves_no_folder_and_the_next_replaces_what_it_left(
    scratch: Address, tmp_path: Path
) -> None:
    execute(scratch, ACCOUNTS)
    chance, folder = random.Random(4), tmp_path / "out"
    for _ in range(10):
        with start("export", folder, address=scratch) as process:
            wait_for(lambda: any(tmp_path.iterdir()) or process.poll() is not None)
            try:
                process.wait(chance.uniform(0, 0.3))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
        if folder.exists():
            folder.rename(tmp_path / "whole")
        for whole in tmp_path.glob("whole"):
            assert [len(read(file)) for file in whole.glob("*.csv")] == [20000, 20000]
            for file in whole.iterdir():
                file.unlink()
            whole.rmdir()
    export(scratch, folder, progress=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "one.csv", "two.csv"]


def test_a_partial_folder_with_something_else_in_it_is_not_removed(
    scratch: Address, tmp_path: Path
) -> None:
    (tmp_path / "out.partial" / "mine").mkdir(parents=True)
    with pytest.raises((OSError, ToolError)):
        export(scratch, tmp_path / "out", progress=quiet)
    assert (tmp_path / "out.partial" / "mine").is_dir()
