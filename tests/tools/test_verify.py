"""The proof of `verify`: what each check finds, and that it finds nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.render.snapshot import snapshot_text
from scripts.scratch import scratch_database
from scripts.server import LocalServer
from scripts.settings import Project, project
from scripts.verify import checks
from scripts.verify.checks import verify
from scripts.verify.mirrors import compare_mirrors

NEWEST = "0002.create-b"
ROLES = """
do $$ begin create role verify_reader; exception when duplicate_object then null; end $$
"""
SCHEMA = f"""
{ROLES};
create table _yoyo_migration (id text);
create table a (
    id bigint primary key,
    name varchar(20) not null check (name in ('x', 'y')),
    born timestamptz
);
create index a_name on a (name);
create table b (id integer primary key, a bigint references a);
create table e ();
create function newest() returns text language sql as $$ select max(id) from _yoyo_migration $$;
grant select on a to verify_reader;
"""
MIRRORS = """
from sqlalchemy import *
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData()
a = Table(
    "a", metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", String(20), nullable=False),
    Column("born", TIMESTAMP(timezone=True)),
)
b = Table("b", metadata, Column("id", Integer, primary_key=True), Column("a", BigInteger))
e = Table("e", metadata)
"""


def execute(address: Address, statements: str) -> None:
    with connect(address, purpose="test") as connection:
        connection.execute(statements.encode())


@pytest.fixture(scope="module")
def built(server: LocalServer) -> Iterator[tuple[Address, str]]:
    """A database that is as it should be, for tests that leave it so, and its snapshot."""
    with scratch_database(server) as address:
        execute(address, SCHEMA)
        yield address, snapshot_text(address, NEWEST)


@pytest.fixture
def this(built: tuple[Address, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of its own, with a snapshot and mirrors that are right."""
    name = f"mirrors_of_{tmp_path.name}"
    snapshot, roles = tmp_path / "schema.sql", tmp_path / "roles.sql"
    mirrors = f"{name}:metadata"
    moved = dataclasses.replace(project(), snapshot=snapshot, roles=roles, mirrors=mirrors)
    snapshot.write_text(built[1], "utf-8")
    roles.write_text(ROLES, "utf-8")
    (tmp_path / f"{name}.py").write_text(MIRRORS, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(checks, "project", lambda: moved)
    return moved


@pytest.fixture
def database(this: Project, built: tuple[Address, str]) -> Address:
    return built[0]


@pytest.fixture
def changed(this: Project, scratch: Address) -> Address:
    """The same database for tests that change it."""
    execute(scratch, SCHEMA)
    return scratch


def found(address: Address, newest: str = NEWEST) -> dict[str, list[Finding]]:
    """The findings of each check, in a read-only session."""
    with connect(address, purpose="test", read_only=True) as connection:
        return {name: list(findings) for name, findings in verify(connection, newest=newest)}


def test_what_is_as_it_should_be_passes_again_and_again(database: Address) -> None:
    names = ("files", "indexes", "constraints", "catalog", "mirrors")
    with connect(database, purpose="test", read_only=True) as connection:
        for _ in range(2):
            assert verify(connection, newest=NEWEST, files=[]) == [(name, []) for name in names]
        assert connection.execute("show transaction_read_only").fetchone() == ("on",)
        edited = [Finding("edited", "was edited")]
        told = verify(connection, newest=NEWEST, files=edited, mirrors=False)
        assert told == [("files", edited), *((name, []) for name in names[1:-1])]


def test_what_was_left_unfinished_is_named_with_its_mending(changed: Address) -> None:
    execute(
        changed,
        """
        insert into a values (1, 'x'), (2, 'x');
        alter table b add constraint "Odd on b" check (id > 0) not valid;
        create domain d as integer;
        alter domain d add constraint d_check check (value > 0) not valid
        """,
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(changed, "create unique index concurrently a_broken on a (name)")
    findings = found(changed)
    assert findings["indexes"] == [
        Finding(
            "invalid-index",
            "index public.a_broken is invalid: building it was interrupted",
            object="public.a_broken",
            fix="reindex index concurrently public.a_broken;",
        )
    ]
    unvalidated = {finding.object: finding for finding in findings["constraints"]}
    assert {name: finding.fix for name, finding in unvalidated.items()} == {
        '"Odd on b" on public.b': 'alter table public.b validate constraint "Odd on b";',
        "d_check on public.d": "alter domain public.d validate constraint d_check;",
    }
    assert {finding.code for finding in unvalidated.values()} == {"unvalidated-constraint"}
    assert {finding.code for finding in findings["catalog"]} == {"drift"}
    for finding in unvalidated.values():
        execute(changed, str(finding.fix))
    execute(changed, "delete from a")
    execute(changed, str(findings["indexes"][0].fix))
    findings = found(changed)
    assert (findings["indexes"], findings["constraints"]) == ([], [])


def test_drift_names_object_expected_and_found(changed: Address) -> None:
    execute(changed, "drop index a_name; alter table a alter column born set default now()")
    findings = found(changed)
    assert [name for name in findings if findings[name]] == ["catalog"]
    told = [(finding.object, finding.message) for finding in findings["catalog"]]
    assert told == [
        ("public.a_name", "index public.a_name: expected, not found"),
        ("public.a.born", "table column public.a.born: default: expected none, found now()"),
    ]
    assert {finding.code for finding in findings["catalog"]} == {"drift"}


WRONG_MIRRORS = """
from sqlalchemy import *

metadata = MetaData()
Table(
    "a", metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", String(30), nullable=True),
    Column("born", Date, nullable=False),
    Column("more", Text),
)
Table("b", metadata, Column("id", Integer, primary_key=True))
Table("c", metadata, Column("id", Integer))
"""
WRONG = """
column a.born: the mirrors say DATE, the database says TIMESTAMP WITH TIME ZONE
column a.born: the mirrors say NOT NULL, the database says NULL
column a.more: the mirrors have it, the database does not
column a.name: the mirrors say NULL, the database says NOT NULL
column a.name: the mirrors say VARCHAR(30), the database says VARCHAR(20)
column b.a: the database has it, the mirrors do not
table c: the mirrors have it, the database does not
table e: the database has it, the mirrors do not
"""


def test_mirrors_that_differ_are_told_in_plain_words(this: Project, database: Address) -> None:
    file = this.roles.with_name(f"{this.mirrors.partition(':')[0]}.py")
    file.write_text(WRONG_MIRRORS, "utf-8")
    findings = found(database)["mirrors"]
    assert [finding.message for finding in findings] == WRONG.strip().splitlines()
    assert {(each.code, each.file) for each in findings} == {("mirror", str(file))}
    assert findings[0].object == "a.born"
    with connect(database, purpose="test", read_only=True) as connection:
        (finding,) = compare_mirrors(connection, "no_such_module:metadata")
    assert finding.message.endswith("cannot be imported: No module named 'no_such_module'")


@pytest.mark.parametrize(
    ("newest", "code", "fix"),
    [
        ("", "drift", "python -m scripts migrate"),
        ("0001.create-a", "drift", "python -m scripts migrate"),
        ("0003.create-c", "stale-snapshot", "python -m scripts render"),
    ],
)
def test_another_migration_than_the_snapshots_is_one_finding(
    database: Address, newest: str, code: str, fix: str
) -> None:
    findings = found(database, newest)
    assert list(findings) == ["files", "indexes", "constraints", "catalog"]
    (finding,) = findings["catalog"]
    assert (finding.code, finding.fix) == (code, fix)
    assert f"the newest applied migration is {newest or 'none'}" in finding.message
    assert f"is of {NEWEST}" in finding.message


def test_a_snapshot_that_is_missing_or_does_not_load_is_told(
    this: Project, database: Address
) -> None:
    lines = this.snapshot.read_text("utf-8").splitlines()
    wrong = next(i for i, line in enumerate(lines) if "born timestamp" in line)
    lines[wrong] = lines[wrong].replace("timestamp", "timestump")
    this.snapshot.write_text("\n".join(lines), "utf-8")
    (finding,) = found(database)["catalog"]
    assert (finding.code, finding.line) == ("stale-snapshot", wrong + 1)
    assert "does not load" in finding.message
    this.snapshot.unlink()
    (finding,) = found(database)["catalog"]
    assert (finding.code, finding.fix) == ("stale-snapshot", "python -m scripts render")
    assert "is missing" in finding.message


def test_roles_are_made_before_the_snapshot_is_loaded(
    server: LocalServer, this: Project, database: Address
) -> None:
    this.roles.write_text("create role verify_only", "utf-8")
    text = this.snapshot.read_text("utf-8")
    this.snapshot.write_text(f"{text}\nGRANT SELECT ON TABLE public.b TO verify_only;\n", "utf-8")
    try:
        (finding,) = found(database)["catalog"]
    finally:
        execute(server.superuser, "drop role verify_only")
    told = "table public.b: granted to verify_only: expected SELECT, found none"
    assert finding.message == told
