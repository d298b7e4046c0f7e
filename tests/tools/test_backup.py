"""Backup and restore: all that a database holds, proven equal, and refusals that change nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.address import Address
from scripts.backup.archive import backup, restore
from scripts.catalog.diff import diff
from scripts.catalog.read import read_catalog
from scripts.database import connect
from scripts.errors import ToolError
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import project
from scripts.verify.prove import prove
from scripts.workload.seed import seed
from tests.conftest import load_migrations
from tests.support.commands import run_here, run_json

pytestmark = pytest.mark.row("R28")

AWKWARD = Path(__file__).with_name("awkward.sql").read_text("utf-8")
VALUES = Path(__file__).with_name("awkward_values.sql").read_text("utf-8")
ROWS = 'select t::text from only {} as t order by t::text collate "C"'


def quiet(name: str, count: int, total: int | None) -> None:
    """Take progress and show it to nobody."""


def execute(address: Address, statements: str) -> None:
    with connect(address, purpose="test") as connection:
        connection.execute(statements.encode())


def rows(address: Address) -> dict[str, list[str]]:
    """Every row as text, read without what is under test."""
    with connect(address, purpose="test") as connection:
        names = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname !~ '^pg_' and schemaname <> 'information_schema'"
        ).fetchall()
        return {
            name: [row for (row,) in connection.execute(ROWS.format(name).encode())]
            for (name,) in names
        }


def bring_back(address: Address, file: Path) -> list[dict[str, Any]]:
    return restore(address, file, roles=project().roles, progress=quiet)


def codes(address: Address, file: Path) -> list[tuple[str, str]]:
    with pytest.raises(ToolError) as caught:
        bring_back(address, file)
    return [(finding.code, finding.message) for finding in caught.value.findings]


@pytest.fixture
def other_owner(server: LocalServer) -> Iterator[Address]:
    """The empty database of an owner with another name than the one whose backups are made."""
    with scratch_database(server) as address:
        server.drop_database(address.database)
        yield server.create_database(address.database, "other_owner")


@pytest.fixture
def small(scratch: Address, tmp_path: Path) -> Path:
    """A backup of two tables; the database that it was made of is gone by then."""
    execute(scratch, "create table a (x int); create table b (x int); insert into a values (1)")
    file = tmp_path / "small"
    backup(scratch, file, progress=quiet)
    execute(scratch, "drop table a, b")
    return file


@pytest.mark.matrix
def test_what_is_restored_under_another_owner_is_equal_and_passes_verify(
    migrated: Address, other_owner: Address, tmp_path: Path
) -> None:
    seed(migrated, users=100, tasks=3000, seed=1)
    file = tmp_path / "todo.backup"
    told = run_json("backup", str(file), MIGRATION_DATABASE_URL=migrated.url)
    assert told["bytes"] == file.stat().st_size
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    came_back = run_json("restore", str(file), MIGRATION_DATABASE_URL=other_owner.url)
    assert came_back["tables"] == told["tables"]
    counts = {table["table"]: table["rows"] for table in told["tables"]}
    assert (counts["tasks"], counts["task_search"], counts['"user"']) == (3000, 3000, 100)
    assert rows(other_owner) == rows(migrated)
    assert [check.name for check in prove(other_owner) if check.findings] == []
    with connect(other_owner, purpose="test") as connection:
        owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
        assert connection.execute(owners).fetchall() == [("other_owner",)]
        may = "select has_table_privilege('migration_history', %s)"
        rights = {
            right: connection.execute(may, [right]).fetchone() for right in ("insert", "delete")
        }
    assert rights == {"insert": (True,), "delete": (False,)}


def test_the_local_server_makes_the_database_that_is_missing(
    server: LocalServer, scratch: Address, small: Path
) -> None:
    missing = scratch.with_(dbname=f"{scratch.database}_copy")
    done = run_json("restore", str(small), MIGRATION_DATABASE_URL=missing.url)
    try:
        assert done["findings"] == []
        assert rows(missing) == {"public.a": ["(1)"], "public.b": []}
    finally:
        server.drop_database(missing.database)


def test_nothing_asks_for_the_role_that_owned_it(
    server: LocalServer, scratch: Address, tmp_path: Path
) -> None:
    gone = server.create_database(f"{scratch.database}_gone", "gone_owner")
    load_migrations(**gone.parameters)
    backup(gone, tmp_path / "file", progress=quiet)
    server.drop_database(gone.database)
    execute(server.superuser, "drop role gone_owner")
    assert bring_back(scratch, tmp_path / "file")


def test_awkward_objects_and_values_of_every_kind_come_back(
    server: LocalServer, scratch: Address, tmp_path: Path
) -> None:
    execute(scratch, AWKWARD)
    execute(scratch, VALUES)
    file = tmp_path / "awkward"
    document = backup(scratch, file, progress=quiet)
    filled = {each["table"] for each in document["tables"] if each["rows"]}
    assert {'"Mixed Case"', '"Weird Schema".t', "a_part_2024", "inh_child", "kinds"} <= filled
    with scratch_database(server) as copy:
        assert bring_back(copy, file) == document["tables"]
        assert rows(copy) == rows(scratch)
        with connect(scratch, purpose="test") as one, connect(copy, purpose="test") as other:
            assert diff(read_catalog(one), read_catalog(other)) == []


def test_the_description_says_what_is_there(migrated: Address, tmp_path: Path) -> None:
    file = tmp_path / "todo.backup"
    backup(migrated, file, progress=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["todo.backup", "todo.backup.json"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    document = json.loads((tmp_path / "todo.backup.json").read_text())
    assert (document["v"], document["database"]) == (1, migrated.database)
    assert document["newest"] == sorted(project().migrations.glob("0*.sql"))[-1].stem.removesuffix(
        ".rollback"
    )
    names = {each["table"] for each in document["tables"]}
    assert {"tasks", "migration_history", "_yoyo_migration"} <= names


@pytest.mark.parametrize("there", ["file", "file.json"])
def test_a_file_that_exists_is_refused_before_anything_starts(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    nobody = "postgresql://x@127.0.0.1:1/x"
    done = run_here("backup", str(tmp_path / "file"), "--json", MIGRATION_DATABASE_URL=nobody)
    (finding,) = json.loads(done.stdout)["findings"]
    assert (done.returncode, finding["code"]) == (1, "exists")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "precious")]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def describe(file: Path, **fields: Any) -> None:
    description = file.with_name(f"{file.name}.json")
    description.write_text(json.dumps({**json.loads(description.read_text()), **fields}))


def forge(file: Path) -> None:
    file.write_text("no archive at all")
    content = file.read_bytes()
    describe(file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


BAD: dict[str, Callable[[Path], object]] = {
    "is cut off": cut,
    "was changed": change,
    "is no archive": forge,
    "has no small.json": lambda file: file.with_name("small.json").unlink(),
    "is not what backup writes": lambda file: file.with_name("small.json").write_text("[1]"),
    "is of version 2": lambda file: describe(file, v=2),
}

# Where a description is none in another way.
MALFORMED = ({"v": None}, {"bytes": "x"}, {"tables": None}, {"tables": [{"x": 1}]})


@pytest.mark.parametrize("what", BAD)
def test_a_backup_that_is_not_whole_is_refused(scratch: Address, small: Path, what: str) -> None:
    BAD[what](small)
    ((code, message),) = codes(scratch, small)
    assert code == "bad-backup"
    assert what in message
    assert rows(scratch) == {}


@pytest.mark.parametrize("fields", MALFORMED, ids=str)
def test_a_malformed_description_is_refused_before_anything_is_loaded(
    scratch: Address, small: Path, fields: dict[str, Any]
) -> None:
    describe(small, **fields)
    assert [code for code, _ in codes(scratch, small)] == ["bad-backup"]
    assert rows(scratch) == {}


def test_a_restore_takes_what_its_statements_answer(scratch: Address, tmp_path: Path) -> None:
    # Each sequence is set by a select, whose row comes back: more than a pipe holds.
    make = "execute format('create sequence s%s', n)"
    execute(scratch, f"do $$ begin for n in 1..2400 loop {make}; end loop; end $$")
    backup(scratch, tmp_path / "f", progress=quiet)
    execute(scratch, "drop schema public cascade; create schema public")
    assert bring_back(scratch, tmp_path / "f") == []
    with connect(scratch, purpose="test") as connection:
        found = connection.execute("select count(*) from pg_sequences").fetchone()
    assert found == (2400,)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("create table t ()", "table public.t"),
        ("create function f() returns int language sql return 1", "function public.f()"),
        ("create schema s", "schema s"),
        ("create type mood as enum ()", "type public.mood"),
        ("create table migration_history ()", "table migration_history"),
    ],
)
def test_a_database_that_is_not_empty_is_refused(
    scratch: Address, small: Path, made: str, named: str
) -> None:
    execute(scratch, made)
    ((code, message),) = codes(scratch, small)
    assert code == "not-empty"
    assert named in message
    assert set(rows(scratch)) <= {"public.t", "public.migration_history"}


def test_each_table_that_is_not_what_the_backup_says_is_named(
    scratch: Address, small: Path
) -> None:
    tables = json.loads(small.with_name("small.json").read_text())["tables"]
    one, other = tables
    lost = {"table": "lost", "rows": 3, "hash": "1"}
    describe(small, tables=[{**one, "hash": "0"}, {**other, "rows": 5}, lost])
    assert codes(scratch, small) == [
        ("differs", "table a has other content than in the backup"),
        ("differs", "table b has 0 rows, and 5 in the backup"),
        ("differs", "table lost is in the backup only"),
    ]


def test_a_role_that_is_missing_is_named_and_nothing_is_left(
    server: LocalServer, scratch: Address, tmp_path: Path
) -> None:
    execute(scratch, "create role ghost; create table t (); grant select on t to ghost")
    backup(scratch, tmp_path / "file", progress=quiet)
    execute(scratch, "drop table t; drop role ghost")
    with pytest.raises(ToolError) as caught:
        bring_back(scratch, tmp_path / "file")
    (finding,) = caught.value.findings
    assert finding.code == "database"
    assert 'role "ghost" does not exist' in finding.message
    assert finding.fix == 'create role "ghost" on this server, and run it again'
    assert rows(scratch) == {}


def test_rows_that_row_security_hides_are_no_backup(weak_owner: Address, tmp_path: Path) -> None:
    execute(
        weak_owner,
        "create table secret (x int); alter table secret enable row level security;"
        "alter table secret force row level security",
    )
    for name in ("backup", "export"):
        done = run_here(name, str(tmp_path / "f"), "--json", MIGRATION_DATABASE_URL=weak_owner.url)
        (finding,) = json.loads(done.stdout)["findings"]
        assert finding["code"] == "needs-bypassrls"
        assert "secret" in finding["message"]
    assert list(tmp_path.iterdir()) == []
