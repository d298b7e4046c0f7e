"""The proof of `verify`: what each check finds, and that it finds nothing where nothing is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.render import snapshot
from scripts.render.snapshot import render
from scripts.server import LocalServer
from scripts.settings import Project, project
from scripts.verify import checks
from scripts.verify.checks import verify

NEWEST = "0002.create-b"
ROLES = """
do $$ begin create role verify_reader; exception when duplicate_object then null; end $$
"""
SCHEMA = """
create table a (
    id bigint primary key,
    name varchar(20) not null check (name in ('x', 'y')),
    born timestamptz
);
create index a_name on a (name);
create table b (id integer primary key, a bigint references a);
create function newest() returns text language sql as $$ select max(id) from _yoyo_migration $$;
grant select on a to verify_reader;
"""
BOOKKEEPING = "create table _yoyo_migration (id text)"
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
"""

Mirror = Callable[[str, str], None]


@pytest.fixture
def this(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of its own, with a snapshot and mirrors that are right."""
    name = f"mirrors_of_{tmp_path.name}"
    moved = dataclasses.replace(
        project(),
        snapshot=tmp_path / "schema.sql",
        roles=tmp_path / "roles.sql",
        mirrors=f"{name}:metadata",
    )
    moved.roles.write_text(ROLES, "utf-8")
    (tmp_path / f"{name}.py").write_text(MIRRORS, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for module in (snapshot, checks):
        monkeypatch.setattr(module, "project", lambda: moved)
    render(build, check=False)
    return moved


@pytest.fixture
def database(this: Project, scratch: Address) -> Address:
    """A database that is as it should be."""
    build(scratch)
    return scratch


@pytest.fixture
def mirror(this: Project) -> Mirror:
    """Return a function that replaces words in the mirrors."""
    path = this.roles.with_name(f"{this.mirrors.partition(':')[0]}.py")

    def replace(old: str, new: str) -> None:
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return replace


def build(address: Address) -> str:
    execute(address, f"{ROLES};{BOOKKEEPING};{SCHEMA}")
    return NEWEST


def execute(address: Address, statements: str) -> None:
    with connect(address, purpose="test") as connection:
        connection.execute(statements.encode())


def found(address: Address, newest: str = NEWEST) -> dict[str, list[Finding]]:
    """The findings of each check, in a read-only session."""
    with connect(address, purpose="test", read_only=True) as connection:
        return {name: list(findings) for name, findings in verify(connection, newest=newest)}


def only(address: Address, check: str) -> list[Finding]:
    """The findings of a check, where every other has none."""
    findings = found(address)
    assert {name for name in findings if findings[name]} == {check}
    return findings[check]


def test_a_database_that_is_as_it_should_be_passes_every_check(database: Address) -> None:
    assert list(found(database).items()) == [
        ("files", []),
        ("indexes", []),
        ("constraints", []),
        ("catalog", []),
        ("mirrors", []),
    ]


def test_the_session_can_be_used_again(database: Address) -> None:
    with connect(database, purpose="test", read_only=True) as connection:
        for _ in range(2):
            assert not [check for check in verify(connection, newest=NEWEST) if check.findings]
        assert connection.execute("show transaction_read_only").fetchone() == ("on",)


def test_findings_about_files_are_passed_on(database: Address) -> None:
    finding = Finding("edited", "was edited")
    with connect(database, purpose="test", read_only=True) as connection:
        assert verify(connection, newest=NEWEST, files=[finding])[0] == ("files", [finding])


def test_an_invalid_index_is_named_with_its_mending(database: Address) -> None:
    execute(database, "insert into a values (1, 'x'), (2, 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        execute(database, "create unique index concurrently a_broken on a (name)")
    findings = found(database)
    assert findings["indexes"] == [
        Finding(
            "invalid-index",
            "index public.a_broken is invalid: building it was interrupted",
            object="public.a_broken",
            fix="reindex index concurrently public.a_broken;",
        )
    ]
    assert [finding.code for finding in findings["catalog"]] == ["drift"]


@pytest.mark.parametrize(
    ("change", "name", "fix"),
    [
        (
            'alter table b add constraint "Odd" check (id > 0) not valid',
            'public.b."Odd"',
            'alter table public.b validate constraint "Odd";',
        ),
        (
            "create domain d as integer; "
            "alter domain d add constraint d_check check (value > 0) not valid",
            "public.d.d_check",
            "alter domain public.d validate constraint d_check;",
        ),
    ],
)
def test_an_unvalidated_constraint_is_named_with_its_mending(
    database: Address, change: str, name: str, fix: str
) -> None:
    execute(database, change)
    (finding,) = found(database)["constraints"]
    assert (finding.code, finding.object, finding.fix) == ("unvalidated-constraint", name, fix)
    execute(database, fix)
    assert found(database)["constraints"] == []


def test_drift_names_object_expected_and_found(database: Address) -> None:
    execute(database, "drop index a_name; alter table a alter column born set default now()")
    assert [
        (finding.code, finding.object, finding.message) for finding in only(database, "catalog")
    ] == [
        ("drift", "public.a.born", "column public.a.born: default: expected none, found now()"),
        ("drift", "public.a_name", "index public.a_name: expected, not found"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "TIMESTAMP(timezone=True)",
            "Date",
            "column a.born: the mirror says DATE, the database says TIMESTAMP WITH TIME ZONE",
        ),
        (
            "String(20)",
            "String(30)",
            "column a.name: the mirror says VARCHAR(30), the database says VARCHAR(20)",
        ),
        (
            "nullable=False",
            "nullable=True",
            "column a.name: the mirror says NULL, the database says NOT NULL",
        ),
        (
            'Column("a", BigInteger)',
            'Column("a", BigInteger, nullable=False)',
            "column b.a: the mirror says NOT NULL, the database says NULL",
        ),
        (
            ', Column("a", BigInteger)',
            "",
            "column b.a: the database has it, the mirror does not",
        ),
        (
            'Column("a", BigInteger)',
            'Column("a", BigInteger), Column("c", Text)',
            "column b.c: the mirror has it, the database does not",
        ),
        (
            "b = Table(",
            'c = Table("c", metadata, Column("id", Integer))\nb = Table(',
            "table c: the mirrors have it, the database does not",
        ),
        (
            "b = Table(",
            "metadata.remove\nb = Table_ = (lambda *_: None)(",
            "table b: the database has it, the mirrors do not",
        ),
    ],
)
def test_a_mirror_that_differs_is_told_in_plain_words(
    database: Address, mirror: Mirror, old: str, new: str, message: str
) -> None:
    mirror(old, new)
    (finding,) = only(database, "mirrors")
    assert (finding.code, finding.message) == ("mirror", message)
    assert finding.object == message.partition(":")[0].partition(" ")[2]
    assert finding.file
    assert finding.file.endswith(".py")


def test_mirrors_that_cannot_be_imported_are_a_finding(database: Address, mirror: Mirror) -> None:
    mirror("metadata = MetaData()", "import no_such_module")
    (finding,) = only(database, "mirrors")
    assert finding.code == "mirror"
    assert "No module named 'no_such_module'" in finding.message


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
    execute(database, "drop table b")
    findings = found(database, newest)
    assert list(findings) == ["files", "indexes", "constraints", "catalog"]
    (finding,) = findings["catalog"]
    assert (finding.code, finding.fix) == (code, fix)
    assert f"the newest applied migration is {newest or 'none'}" in finding.message
    assert f"is of {NEWEST}" in finding.message


def test_a_missing_snapshot_is_a_finding(this: Project, database: Address) -> None:
    this.snapshot.unlink()
    (finding,) = only(database, "catalog")
    assert (finding.code, finding.fix) == ("stale-snapshot", "python -m scripts render")


def test_a_snapshot_that_does_not_load_is_told_with_its_line(
    this: Project, database: Address
) -> None:
    lines = this.snapshot.read_text("utf-8").splitlines()
    wrong = next(i for i, line in enumerate(lines) if "born timestamp" in line)
    lines[wrong] = lines[wrong].replace("timestamp", "timestump")
    this.snapshot.write_text("\n".join(lines), "utf-8")
    (finding,) = only(database, "catalog")
    assert finding.code == "stale-snapshot"
    assert "does not load" in finding.message
    assert finding.line == wrong + 1


def test_roles_are_made_before_the_snapshot_is_loaded(
    server: LocalServer, this: Project, database: Address
) -> None:
    this.roles.write_text("create role verify_only", "utf-8")
    text = this.snapshot.read_text("utf-8")
    this.snapshot.write_text(f"{text}\nGRANT SELECT ON TABLE public.b TO verify_only;\n", "utf-8")
    try:
        (finding,) = only(database, "catalog")
    finally:
        execute(server.superuser, "drop role verify_only")
    assert finding.message == "grants table public.b to verify_only: expected, not found"
