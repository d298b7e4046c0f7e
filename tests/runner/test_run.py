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
from scripts.runner.run import migrate, rollback

pytestmark = pytest.mark.matrix

Write = Callable[..., Path]
A = ("create table a (id int primary key)", "drop table a")
B = ("create table b (id int primary key)", "drop table b")


class Runner:
    """The runner on a database, with a folder of migrations."""

    def __init__(self, owner: psycopg.Connection[Any], write: Write) -> None:
        self.owner, self.write, self.folder = owner, write, write({})

    def apply(self, files: dict[str, Any] | None = None, **options: Any) -> list[str]:
        self.write(files or {})
        return migrate(self.owner, self.folder, **{"check_seal": False, **options})

    def undo(self, target: str | None = None, **options: Any) -> list[str]:
        options = {"check_seal": False, **options}
        return rollback(self.owner, self.folder, target=target, **options)

    def value(self, query: str) -> Any:
        row = self.owner.execute(query.encode()).fetchone()
        return row and row[0]

    @property
    def tables(self) -> set[str]:
        query = "select tablename from pg_tables where schemaname = 'public'"
        names = {name for (name,) in self.owner.execute(query)}
        return {name for name in names if "yoyo" not in name} - {"migration_history"}

    @property
    def applied(self) -> list[str]:
        return list(read_applied(self.owner))


@pytest.fixture
def runner(scratch: Address, write: Write) -> Iterator[Runner]:
    with connect(scratch, purpose="test") as connection:
        yield Runner(connection, write)


@pytest.fixture
def weak_runner(weak_owner: Address, write: Write) -> Iterator[Runner]:
    with connect(weak_owner, purpose="test") as connection:
        yield Runner(connection, write)


def refused(call: Callable[..., object], *arguments: Any, **options: Any) -> Any:
    with pytest.raises(ToolError) as error:
        call(*arguments, **options)
    return error.value.findings[0]


@pytest.mark.row("R9", "R10")
def test_files_are_applied_in_order_once_and_undone_in_reverse(runner: Runner) -> None:
    assert runner.apply({"0001.a-a": A, "0002.b-b": B}) == ["0001.a-a", "0002.b-b"]
    assert runner.tables == {"a", "b"}
    assert runner.apply() == []
    assert runner.undo("0000") == ["0002.b-b", "0001.a-a"]
    assert (runner.tables, runner.applied) == (set(), [])
    for target in ("0001", "0001.a-a"):
        assert runner.apply(target=target) == ["0001.a-a"]
        assert runner.apply() == ["0002.b-b"]
        assert runner.undo(target) == ["0002.b-b"]
        assert runner.undo("0000") == ["0001.a-a"]
    assert "no migration is called 0009" in refused(runner.apply, target="0009").message
    runner.apply()
    assert runner.undo() == ["0002.b-b"]  # the newest
    assert runner.undo(steps=5) == ["0001.a-a"]
    assert runner.undo() == []


@pytest.mark.row("R9")
def test_the_history_is_complete_and_the_owner_cannot_rewrite_it(runner: Runner) -> None:
    runner.apply({"0001.a-a": A})
    runner.undo()
    newest, oldest = read_history(runner.owner, 10)
    assert (oldest["operation"], newest["operation"]) == ("apply", "rollback")
    (migration,) = read_migrations(runner.folder)
    assert migration.rollback
    assert oldest["checksum"] == migration.forward.checksum
    assert newest["checksum"] == migration.rollback.checksum
    missing = {name for name, value in oldest.items() if value is None}
    assert missing <= {"git_commit", "git_clean"}
    assert oldest["role"] == runner.owner.info.user
    assert oldest["application"] == "schema-test"
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode == 0:
        assert oldest["git_commit"] == head.stdout.strip()
        assert oldest["git_clean"] in (True, False)
    for change in ("update {} set checksum = ''", "delete from {}", "truncate {}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            runner.owner.execute(change.format("migration_history").encode())


# As the runner made it before there were restore points.
OLDER_HISTORY = """
alter table migration_history drop column lsn;
alter table migration_history drop constraint migration_history_operation_check;
alter table migration_history add constraint migration_history_operation_check
    check (operation in ('apply', 'rollback'));
"""


@pytest.mark.row("R9", "R27")
def test_an_older_history_takes_restore_points(runner: Runner) -> None:
    runner.apply({"0001.a-a": A})
    runner.owner.execute(OLDER_HISTORY)
    (applied,) = read_history(runner.owner, 10)
    told: list[str] = []
    runner.apply({"0002.b-b": B}, restore_point=True, emit=lambda event, **_: told.append(event))
    assert told == ["restore-point", "applying", "applied"]
    newest, point, oldest = read_history(runner.owner, 10)
    assert oldest == {**applied, "lsn": None}
    assert (point["operation"], point["migration_id"]) == ("restore-point", "0001.a-a")
    assert None not in (point["lsn"], newest["lsn"])
    assert runner.applied == ["0001.a-a", "0002.b-b"]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runner.owner.execute("delete from migration_history")


@pytest.mark.row("R9")
def test_yoyo_and_the_runner_continue_each_others_work(runner: Runner, scratch: Address) -> None:
    def yoyo(command: str) -> list[list[str]]:
        """Run yoyo's own command line; return the words of each line."""
        url = scratch.url.replace("postgresql://", "postgresql+psycopg://")
        options = ["--batch", "--no-config-file", "--database", url, str(runner.folder)]
        program = [sys.executable, "-m", "yoyo", command, *options]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines()]

    runner.write({"0001.a-a": A})
    yoyo("apply")
    assert runner.tables == {"a"}
    assert runner.undo() == ["0001.a-a"]
    assert runner.tables == set()
    assert runner.apply({"0002.b-b": B}) == ["0001.a-a", "0002.b-b"]
    assert runner.undo() == ["0002.b-b"]
    listed = [words[:2] for words in yoyo("list") if words[0] in ("A", "U")]
    assert listed == [["A", "0001.a-a"], ["U", "0002.b-b"]]
    yoyo("apply")
    assert runner.tables == {"a", "b"}
    # The runner knows what it did not record.
    records = read_applied(runner.owner)
    assert records["0001.a-a"].checksum
    assert records["0002.b-b"].checksum is None
    assert runner.apply() == []


def test_a_frozen_database_stays_as_it_is(runner: Runner, scratch: Address) -> None:
    freeze = f"alter database {scratch.database} set default_transaction_read_only = on"
    runner.owner.execute(freeze.encode())
    frozen = pytest.raises(psycopg.errors.ReadOnlySqlTransaction)
    with connect(scratch, purpose="test") as connection, frozen:
        Runner(connection, runner.write).apply({"0001.a-a": A})
    assert runner.tables == set()


EDITED = (A[0] + " -- edited", A[1])


@pytest.mark.row("R9")
@pytest.mark.parametrize(
    ("first", "then", "code", "fix"),
    [
        ({"0001.a-a": A}, {"0001.a-a": EDITED, "0002.b-b": B}, "edited", "restore it from git"),
        ({"0001.a-a": A, "0002.b-b": B}, {"0003.c-c": B}, "missing", "restore 0001.a-a.sql from"),
        ({"0002.b-b": B}, {"0001.a-a": A}, "out-of-order", "give it the next number after 0002"),
    ],
)
def test_files_that_are_not_those_applied_are_refused(
    runner: Runner, first: dict[str, Any], then: dict[str, Any], code: str, fix: str
) -> None:
    runner.apply(first)
    before = runner.tables
    for path in runner.folder.glob("0001*") if code == "missing" else ():
        path.unlink()
    finding = refused(runner.apply, then)
    assert finding.code == code
    assert finding.fix.startswith(fix)
    assert "0001.a-a" in (finding.file or finding.object)
    assert (runner.applied, runner.tables) == (list(first), before)
    if code == "missing":
        assert refused(runner.undo, "0000").code == code
    else:  # whoever edits a file of theirs gets out by this
        assert runner.undo("0000") == list(first)


@pytest.mark.row("R9")
def test_files_that_are_not_sealed_are_refused_elsewhere(runner: Runner) -> None:
    finding = refused(runner.apply, {"0001.a-a": A}, check_seal=True)
    assert (finding.code, finding.fix) == ("seal", "python -m scripts seal")
    seal.seal(read_migrations(runner.folder), runner.folder, [])
    assert runner.apply(check_seal=True) == ["0001.a-a"]
    runner.write({"0001.a-a": (A[0], "drop table a cascade")})
    assert refused(runner.undo, check_seal=True).code == "seal"


GAP = "\n\n\n\n\n\n"


@pytest.mark.row("R9")
@pytest.mark.parametrize(
    ("text", "line", "words", "applied"),
    [
        (f"{GAP}create tabel c ();", 7, "syntax error", []),
        (
            f"create table c ();{GAP}alter table c\n    add column x integr;\n",
            8,
            'type "integr" does not exist',
            ["0001.a-a"],
        ),
        (
            f"create table c (x int); insert into c values (1);{GAP}"
            "alter table c add constraint c_check check (x > 1);",
            7,
            "is violated by some row",
            ["0001.a-a"],
        ),
        (
            f"create table c (x int unique);{GAP}insert into c values (1), (1);",
            7,
            "detail: Key (x)=(1) already exists.",
            ["0001.a-a"],
        ),
        (  # at commit
            "create table c (id int primary key, parent int references c initially deferred);"
            "insert into c values (1, 2);",
            None,
            "foreign key",
            ["0001.a-a"],
        ),
    ],
)
def test_an_error_names_its_line_and_leaves_nothing_of_its_file(
    runner: Runner, text: str, line: int | None, words: str, applied: list[str]
) -> None:
    finding = refused(runner.apply, {"0001.a-a": A, "0002.b-b": text, "0003.c-c": B})
    assert (finding.code, finding.line) == ("sql", line)
    assert words in finding.message
    assert runner.tables == ({"a"} if applied else set())
    assert runner.applied == applied
    assert [entry["migration_id"] for entry in read_history(runner.owner, 9)] == applied


def test_what_a_file_sets_does_not_reach_the_next(runner: Runner) -> None:
    first = "create schema s; set search_path = s; set lock_timeout = 0; create table a ()"
    assert runner.apply({"0001.a-a": first, "0002.b-b": B}) == ["0001.a-a", "0002.b-b"]
    query = "select schemaname, tablename from pg_tables where tablename in ('a', 'b')"
    assert set(runner.owner.execute(query)) == {("s", "a"), ("public", "b")}


def test_a_concurrent_index_is_rebuilt_after_failure_and_kill_and_undone(runner: Runner) -> None:
    create = 'create unique index concurrently if not exists "X""y" on s.a (x)'
    concurrent = (
        f"-- transactional: false\n{create}",
        '-- transactional: false\ndrop index concurrently if exists s."X""y"',
    )
    is_valid = """
        select indisvalid from pg_index where indexrelid = to_regclass('s."X""y"')
    """
    duplicates = "create schema s; create table s.a (x int); insert into s.a values (1), (1)"
    finding = refused(runner.apply, {"0001.a-a": duplicates, "0002.b-b": concurrent})
    assert "could not create unique index" in finding.message
    assert (runner.value(is_valid), runner.applied) == (None, ["0001.a-a"])
    # What a kill leaves is what PostgreSQL leaves of a build that it cannot finish.
    with pytest.raises(psycopg.errors.UniqueViolation):
        runner.owner.execute(create.encode())
    assert runner.value(is_valid) is False
    runner.owner.execute("delete from s.a")
    assert runner.apply() == ["0002.b-b"]
    assert runner.value(is_valid) is True
    assert runner.undo() == ["0002.b-b"]
    assert runner.value(is_valid) is None


@pytest.mark.row("R12")
def test_a_rollback_that_loses_data_needs_a_flag_and_one_that_is_missing_is_told(
    runner: Runner,
) -> None:
    lossy = (A[0], "-- data-loss: every row of a\ndrop table a")
    runner.apply({"0001.a-a": lossy, "0002.b-b": B})
    finding = refused(runner.undo, "0000")
    assert (finding.code, finding.fix) == ("data-loss", "--accept-data-loss")
    assert "every row of a" in finding.message
    assert runner.tables == {"a", "b"}  # not even the second, which loses nothing
    assert runner.undo("0000", accept_data_loss=True) == ["0002.b-b", "0001.a-a"]
    runner.apply()
    (runner.folder / "0001.a-a.rollback.sql").unlink()
    finding = refused(runner.undo, "0000", accept_data_loss=True)
    assert (finding.code, runner.tables) == ("no-rollback", {"a", "b"})


PROTECTED = (
    "create table a (id int); alter table a enable row level security; "
    "alter table a force row level security"
)


@pytest.mark.row("R7")
@pytest.mark.parametrize("at_once", [True, False], ids=["in one run", "later"])
@pytest.mark.parametrize(
    ("statement", "is_seen"),
    [
        ("update a set id = 1", True),
        ("create table b as select * from a", True),
        ("do $$ begin update a set id = 1; end $$", False),
    ],
)
def test_an_owner_without_bypassrls_cannot_backfill_silently(
    weak_runner: Runner, statement: str, is_seen: bool, at_once: bool
) -> None:
    weak_runner.write({"0001.a-a": PROTECTED, "0002.b-b": statement})
    if not at_once:
        weak_runner.apply(target="0001")
    finding = refused(weak_runner.apply)
    assert finding.code == "needs-bypassrls"
    assert finding.file.endswith("0002.b-b.sql")
    # What is hidden in a block the server tells, after the first file.
    assert weak_runner.applied == ([] if at_once and is_seen else ["0001.a-a"])


@pytest.mark.parametrize(
    "statement",
    ["insert into z.a values (1)", "create table b as with a as (select 1 as id) select * from a"],
)
def test_other_tables_of_the_same_name_are_no_matter(weak_runner: Runner, statement: str) -> None:
    other = f"create schema z; create table z.a (id int); {statement}"
    assert weak_runner.apply({"0001.a-a": PROTECTED, "0002.b-b": other}) == ["0001.a-a", "0002.b-b"]


def test_a_statement_waits_a_bounded_time_for_a_lock(
    scratch: Address, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.database.LOCK_TIMEOUT", "200ms")
    write({"0001.a-a": A, "0002.b-b": "alter table a add column x int"})
    with connect(scratch, purpose="test") as owner, connect(scratch, purpose="other") as other:
        runner = Runner(owner, write)
        runner.apply(target="0001")
        with other.transaction():
            other.execute("lock table a in access share mode")
            finding = refused(runner.apply)
        assert finding.code == "lock-timeout"
        assert runner.apply() == ["0002.b-b"]
