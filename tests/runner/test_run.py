"""The runner on a real server: what it applies, records, refuses, and never leaves half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.errors import ToolError
from scripts.runner import seal
from scripts.runner.files import read_migrations
from scripts.runner.ledger import read_applied, read_history
from scripts.runner.lock import KEY
from scripts.runner.run import migrate, rollback

pytestmark = pytest.mark.matrix

Write = Callable[..., Path]
A = ("create table a (id int primary key)", "drop table a")
B = ("create table b (id int primary key)", "drop table b")


@pytest.fixture
def owner(scratch: Address) -> Iterator[psycopg.Connection[Any]]:
    with connect(scratch, purpose="test") as connection:
        yield connection


def apply(owner: psycopg.Connection[Any], folder: Path, **options: Any) -> list[str]:
    return migrate(owner, folder, check_seal=False, **options)


def undo(owner: psycopg.Connection[Any], folder: Path, **options: Any) -> list[str]:
    return rollback(owner, folder, check_seal=False, **options)


def tables(owner: psycopg.Connection[Any]) -> set[str]:
    query = "select tablename from pg_tables where schemaname = 'public' and tablename !~ 'yoyo'"
    return {name for (name,) in owner.execute(query)} - {"migration_history"}


def applied(owner: psycopg.Connection[Any]) -> list[str]:
    return list(read_applied(owner))


def yoyo(command: str, address: Address, folder: Path) -> str:
    """Run yoyo's own command line on a database."""
    url = address.url.replace("postgresql://", "postgresql+psycopg://")
    arguments = [command, "--batch", "--no-config-file", "--database", url, str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "yoyo", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.row("R9", "R10")
def test_files_are_applied_in_order_once_and_undone_in_reverse(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    events: list[tuple[str, str]] = []

    def emit(event: str, **fields: Any) -> None:
        events.append((event, fields["id"]))

    assert apply(owner, folder, emit=emit) == ["0001.a-a", "0002.b-b"]
    assert tables(owner) == {"a", "b"}
    assert apply(owner, folder, emit=emit) == []
    assert undo(owner, folder, target="0000", emit=emit) == ["0002.b-b", "0001.a-a"]
    assert tables(owner) == set()
    assert applied(owner) == []
    assert [event for event in events if event[0] in ("applied", "reverted")] == [
        ("applied", "0001.a-a"),
        ("applied", "0002.b-b"),
        ("reverted", "0002.b-b"),
        ("reverted", "0001.a-a"),
    ]


@pytest.mark.row("R10")
def test_a_target_is_an_id_or_a_number(owner: psycopg.Connection[Any], write: Write) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    for target in ("0001", "0001.a-a"):
        assert apply(owner, folder, target=target) == ["0001.a-a"]
        assert apply(owner, folder) == ["0002.b-b"]
        assert undo(owner, folder, target=target) == ["0002.b-b"]
        assert undo(owner, folder, target="0000") == ["0001.a-a"]
    with pytest.raises(ToolError, match="no migration is called 0009"):
        apply(owner, folder, target="0009")


@pytest.mark.row("R10")
def test_steps_undo_the_newest(owner: psycopg.Connection[Any], write: Write) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    apply(owner, folder)
    assert undo(owner, folder) == ["0002.b-b"]
    assert undo(owner, folder, steps=5) == ["0001.a-a"]
    assert undo(owner, folder) == []


@pytest.mark.row("R9")
def test_the_history_is_complete(owner: psycopg.Connection[Any], write: Write) -> None:
    folder = write({"0001.a-a": A})
    apply(owner, folder)
    undo(owner, folder)
    newest, oldest = read_history(owner, 10)
    assert (oldest["operation"], newest["operation"]) == ("apply", "rollback")
    (migration,) = read_migrations(folder)
    assert migration.rollback
    assert oldest["checksum"] == migration.forward.checksum
    assert newest["checksum"] == migration.rollback.checksum
    missing = [
        name
        for name, value in oldest.items()
        if value is None and name not in ("git_commit", "git_clean")
    ]
    assert missing == []
    assert oldest["role"] == owner.info.user
    assert oldest["application"] == "schema-test"
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert oldest["git_commit"] == head.stdout.strip()
        assert oldest["git_clean"] in (True, False)


@pytest.mark.row("R9")
def test_the_history_cannot_be_rewritten_by_the_owner(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    apply(owner, write({"0001.a-a": A}))
    for change in ("update {} set checksum = ''", "delete from {}", "truncate {}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute(change.format("migration_history").encode())


@pytest.mark.row("R9")
def test_yoyo_itself_reads_and_continues_what_the_runner_wrote(
    owner: psycopg.Connection[Any], scratch: Address, write: Write
) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    apply(owner, folder, target="0001")
    lines = [line.split()[:2] for line in yoyo("list", scratch, folder).splitlines()]
    listed = [line for line in lines if line[0] in ("A", "U")]
    assert listed == [["A", "0001.a-a"], ["U", "0002.b-b"]]
    yoyo("apply", scratch, folder)
    assert tables(owner) - {"yoyo_lock"} == {"a", "b"}
    # And the runner goes on from there: it knows what it did not record.
    records = read_applied(owner)
    assert records["0001.a-a"].checksum
    assert records["0002.b-b"].checksum is None
    assert apply(owner, folder) == []


@pytest.mark.row("R9")
def test_what_yoyo_alone_applied_is_rolled_back(
    owner: psycopg.Connection[Any], scratch: Address, write: Write
) -> None:
    folder = write({"0001.a-a": A})
    yoyo("apply", scratch, folder)
    assert tables(owner) - {"yoyo_lock"} == {"a"}
    assert undo(owner, folder) == ["0001.a-a"]
    assert tables(owner) - {"yoyo_lock"} == set()
    assert apply(owner, folder) == ["0001.a-a"]


def test_a_frozen_database_stays_as_it_is(
    owner: psycopg.Connection[Any], scratch: Address, write: Write
) -> None:
    owner.execute(f"alter database {scratch.database} set default_transaction_read_only = on")
    frozen = pytest.raises(psycopg.errors.ReadOnlySqlTransaction)
    with connect(scratch, purpose="test") as connection, frozen:
        apply(connection, write({"0001.a-a": A}))
    assert tables(owner) == set()


def refused(call: Callable[[], object]) -> Any:
    with pytest.raises(ToolError) as error:
        call()
    return error.value.findings[0]


@pytest.mark.row("R9")
def test_an_edited_applied_file_is_refused(owner: psycopg.Connection[Any], write: Write) -> None:
    folder = write({"0001.a-a": A})
    apply(owner, folder)
    write({"0001.a-a": (A[0] + " -- edited", A[1]), "0002.b-b": B})
    finding = refused(lambda: apply(owner, folder))
    assert finding.code == "edited"
    assert finding.file.endswith("0001.a-a.sql")
    assert "restore it" in finding.fix
    assert applied(owner) == ["0001.a-a"]
    assert undo(owner, folder) == ["0001.a-a"]  # whoever edits a file of theirs gets out by this


@pytest.mark.row("R9")
def test_a_deleted_applied_file_is_refused(owner: psycopg.Connection[Any], write: Write) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    apply(owner, folder)
    for path in folder.glob("0001*"):
        path.unlink()
    write({"0003.c-c": "create table c ()"})
    for run in (apply, lambda *a: undo(*a, target="0000")):
        finding = refused(lambda run=run: run(owner, folder))
        assert (finding.code, finding.object) == ("missing", "0001.a-a")
    assert tables(owner) == {"a", "b"}


@pytest.mark.row("R9")
def test_a_new_file_before_an_applied_one_is_refused(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0002.b-b": B})
    apply(owner, folder)
    write({"0001.a-a": A})
    finding = refused(lambda: apply(owner, folder))
    assert finding.code == "out-of-order"
    assert finding.fix == "give it the next number after 0002"
    assert tables(owner) == {"b"}


@pytest.mark.row("R9")
def test_files_that_are_not_sealed_are_refused_elsewhere(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0001.a-a": A})
    finding = refused(lambda: migrate(owner, folder))
    assert (finding.code, finding.fix) == ("seal", "python -m scripts seal")
    seal.seal(read_migrations(folder), folder, [])
    assert migrate(owner, folder) == ["0001.a-a"]
    write({"0001.a-a": (A[0], "drop table a cascade")})
    assert refused(lambda: rollback(owner, folder)).code == "seal"


BROKEN = {
    "at a position": (
        "create table c ();\n\n\n\n\n\nalter table c\n    add column x integr;\n",
        8,
        'type "integr" does not exist',
    ),
    "without a position": (
        "create table c (x int);\ninsert into c values (1);\n\n\n\n\n"
        "alter table c add constraint c_check check (x > 1);",
        7,
        "is violated by some row",
    ),
    "with detail and hint": (
        "create table c (x int unique);\n\n\n\n\n\ninsert into c values (1), (1);",
        7,
        "detail: Key (x)=(1) already exists.",
    ),
}


@pytest.mark.row("R9")
@pytest.mark.parametrize("case", BROKEN)
def test_an_error_names_its_line_and_leaves_nothing_of_its_file(
    owner: psycopg.Connection[Any], write: Write, case: str
) -> None:
    text, line, words = BROKEN[case]
    folder = write({"0001.a-a": A, "0002.b-b": text, "0003.c-c": B})
    finding = refused(lambda: apply(owner, folder))
    assert (finding.code, finding.line) == ("sql", line)
    assert words in finding.message
    assert tables(owner) == {"a"}
    assert applied(owner) == ["0001.a-a"]
    assert [entry["migration_id"] for entry in read_history(owner, 9)] == ["0001.a-a"]


def test_a_syntax_error_stops_the_run_before_anything_is_applied(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": "\n\n\n\n\n\ncreate tabel b ();"})
    finding = refused(lambda: apply(owner, folder))
    assert (finding.code, finding.line) == ("sql", 7)
    assert applied(owner) == []


def test_an_error_at_commit_is_told_and_leaves_nothing(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    deferred = (
        "create table b (id int primary key, "
        "parent int references b deferrable initially deferred);"
        "insert into b values (1, 2);"
    )
    finding = refused(lambda: apply(owner, write({"0001.b-b": deferred})))
    assert finding.code == "sql"
    assert "foreign key" in finding.message
    assert tables(owner) == set()
    assert applied(owner) == []


def test_what_a_file_sets_does_not_reach_the_next(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    first = "create schema s; set search_path = s; set lock_timeout = 0; create table a ()"
    assert apply(owner, write({"0001.a-a": first, "0002.b-b": B})) == ["0001.a-a", "0002.b-b"]
    rows = owner.execute(
        "select schemaname, tablename from pg_tables where tablename in ('a', 'b')"
    )
    assert set(rows) == {("s", "a"), ("public", "b")}


CONCURRENT = (
    "-- transactional: false\ncreate unique index concurrently if not exists a_x_key on a (x);",
    "-- transactional: false\ndrop index concurrently if exists a_x_key;",
)


def test_an_index_is_built_concurrently_and_undone(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0001.a-a": "create table a (x int)", "0002.b-b": CONCURRENT})
    apply(owner, folder)
    row = owner.execute("select indisvalid from pg_index where indexrelid = 'a_x_key'::regclass")
    assert row.fetchone() == (True,)
    undo(owner, folder)
    assert owner.execute("select to_regclass('a_x_key')").fetchone() == (None,)


def test_a_failed_concurrent_index_leaves_no_invalid_index(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    duplicates = "create table a (x int); insert into a values (1), (1)"
    folder = write({"0001.a-a": duplicates, "0002.b-b": CONCURRENT})
    assert "could not create unique index" in refused(lambda: apply(owner, folder)).message
    assert owner.execute("select to_regclass('a_x_key')").fetchone() == (None,)
    assert applied(owner) == ["0001.a-a"]


def test_an_invalid_index_of_a_killed_run_is_rebuilt_not_marked(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    duplicates = "create table a (x int); insert into a values (1), (1)"
    folder = write({"0001.a-a": duplicates, "0002.b-b": CONCURRENT})
    apply(owner, folder, target="0001")
    # What a kill leaves is what PostgreSQL leaves of a build that it cannot finish.
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute("create unique index concurrently a_x_key on a (x)")
    owner.execute("delete from a")
    apply(owner, folder)
    row = owner.execute("select indisvalid from pg_index where indexrelid = 'a_x_key'::regclass")
    assert row.fetchone() == (True,)


@pytest.mark.row("R12")
def test_a_rollback_that_loses_data_needs_a_flag(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    lossy = (A[0], "-- data-loss: every row of a\ndrop table a")
    folder = write({"0001.a-a": lossy, "0002.b-b": B})
    apply(owner, folder)
    finding = refused(lambda: undo(owner, folder, target="0000"))
    assert (finding.code, finding.fix) == ("data-loss", "--accept-data-loss")
    assert "every row of a" in finding.message
    assert tables(owner) == {"a", "b"}  # not even the second, which loses nothing
    assert undo(owner, folder, target="0000", accept_data_loss=True) == ["0002.b-b", "0001.a-a"]


def test_a_missing_rollback_is_told_before_anything_is_undone(
    owner: psycopg.Connection[Any], write: Write
) -> None:
    folder = write({"0001.a-a": "create table a ()", "0002.b-b": B})
    apply(owner, folder)
    assert refused(lambda: undo(owner, folder, target="0000")).code == "no-rollback"
    assert tables(owner) == {"a", "b"}


PROTECTED = (
    "create table a (id int); alter table a enable row level security; "
    "alter table a force row level security"
)
BACKFILLS = {
    "seen in the file": ("update a set id = 1", "0002.b-b.sql"),
    "a read": ("create table b as select * from a", "0002.b-b.sql"),
    "hidden in a block": ("do $$ begin update a set id = 1; end $$", "0002.b-b.sql"),
}


@pytest.mark.row("R7")
@pytest.mark.parametrize("case", BACKFILLS)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one run", "later"])
def test_an_owner_without_bypassrls_cannot_backfill_silently(
    weak_owner: Address, write: Write, case: str, at_once: bool
) -> None:
    statement, file = BACKFILLS[case]
    folder = write({"0001.a-a": PROTECTED, "0002.b-b": statement})
    with connect(weak_owner, purpose="test") as connection:
        if not at_once:
            apply(connection, folder, target="0001")
        finding = refused(lambda: apply(connection, folder))
        assert finding.code == "needs-bypassrls"
        assert finding.file.endswith(file)
        if "do" not in statement.split():  # there the server says it, after the first file
            assert applied(connection) == ([] if at_once else ["0001.a-a"])
        assert "0002.b-b" not in applied(connection)


@pytest.mark.parametrize(
    "statement",
    ["insert into z.a values (1)", "create table b as with a as (select 1 as id) select * from a"],
)
def test_other_tables_of_the_same_name_are_no_matter(
    weak_owner: Address, write: Write, statement: str
) -> None:
    other = f"create schema z; create table z.a (id int); {statement}"
    folder = write({"0001.a-a": PROTECTED, "0002.b-b": other})
    with connect(weak_owner, purpose="test") as connection:
        assert apply(connection, folder) == ["0001.a-a", "0002.b-b"]


def test_two_runs_at_once_apply_each_file_once(
    owner: psycopg.Connection[Any], scratch: Address, write: Write
) -> None:
    folder = write({"0001.a-a": A, "0002.b-b": B})
    events: list[str] = []
    with connect(scratch, purpose="other") as other:
        other.execute("select pg_advisory_lock(%s)", [KEY])
        finding = refused(
            lambda: apply(owner, folder, lock_wait=0.3, emit=lambda e, **_: events.append(e))
        )
        assert finding.code == "locked"
        assert f"process {other.info.backend_pid}, schema-other" in finding.message
        assert events == ["waiting"]
        assert tables(owner) == set()
    assert apply(owner, folder) == ["0001.a-a", "0002.b-b"]


def test_a_statement_waits_a_bounded_time_for_a_lock(
    scratch: Address, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.database.LOCK_TIMEOUT", "200ms")
    folder = write({"0001.a-a": A, "0002.b-b": "alter table a add column x int"})
    with connect(scratch, purpose="test") as owner:
        apply(owner, folder, target="0001")
        with connect(scratch, purpose="other") as other, other.transaction():
            other.execute("lock table a in access share mode")
            finding = refused(lambda: apply(owner, folder))
        assert finding.code == "lock-timeout"
        assert apply(owner, folder) == ["0002.b-b"]
