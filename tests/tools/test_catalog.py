"""Reading catalogs and comparing them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest

from scripts.address import Address
from scripts.catalog.canonical import same_definition
from scripts.catalog.diff import diff
from scripts.catalog.model import BOOKKEEPING
from scripts.catalog.read import read_catalog
from scripts.database import connect
from scripts.scratch import scratch_database
from scripts.server import LocalServer

AWKWARD = Path(__file__).with_name("awkward.sql").read_text("utf-8")
CHANGES = Path(__file__).with_name("changes.sql").read_text("utf-8").strip().split("\n\n")[1:]


@pytest.fixture(scope="module")
def loaded(server: LocalServer) -> Iterator[Address]:
    """A database with the awkward schema, for tests that leave it as it is."""
    with scratch_database(server) as address:
        with connect(address, purpose="test") as connection:
            connection.execute(AWKWARD)
        yield address


@pytest.fixture
def awkward(loaded: Address) -> Iterator[psycopg.Connection]:
    """A session on the awkward schema whose changes are undone."""
    with connect(loaded, purpose="test") as session, session.transaction(force_rollback=True):
        yield session


def differences(connection: psycopg.Connection, change: str) -> list[str]:
    before = read_catalog(connection)
    connection.execute(change.encode())
    return [str(difference) for difference in diff(before, read_catalog(connection))]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.partition("\n")[0][3:])
def test_a_change_is_told_by_object_attribute_expected_and_found(
    awkward: psycopg.Connection, change: str
) -> None:
    expected = [line[4:] for line in change.splitlines() if line.startswith("--> ")]
    assert differences(awkward, change) == expected


def test_bookkeeping_is_left_out_with_all_that_belongs_to_it(awkward: psycopg.Connection) -> None:
    made = "".join(
        f"""
        create table {table} (id bigint generated always as identity primary key, n serial);
        create index on {table} (n);
        comment on column {table}.n is 'kept';
        grant select on {table} to snap_ro;
        create policy p on {table} using (true);
        create trigger t before update on {table} for each row execute function touch();
        create statistics {table}_statistics on id, n from {table};
        """
        for table in BOOKKEEPING
    )
    assert differences(awkward, made) == []


def test_the_sessions_settings_neither_matter_nor_change(loaded: Address) -> None:
    with connect(loaded, purpose="test", read_only=True) as connection:
        plain = read_catalog(connection)
        connection.execute(
            """
            set search_path = "Weird Schema", public; set datestyle = 'german';
            set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601';
            set quote_all_identifiers = on; set bytea_output = 'escape'
            """
        )
        assert read_catalog(connection) == plain
        assert connection.execute("show timezone").fetchone() == ("Asia/Tokyo",)


def test_the_owner_does_not_matter(server: LocalServer, loaded: Address, scratch: Address) -> None:
    with connect(loaded, purpose="test") as connection:
        expected = read_catalog(connection)
    with connect(server.superuser.with_(dbname=scratch.database), purpose="test") as connection:
        connection.execute(AWKWARD)
        # The schema public, too, is another's there.
        assert diff(expected, read_catalog(connection)) == []


def test_two_queries_read_all_and_of_an_extension_only_itself(awkward: psycopg.Connection) -> None:
    execute = psycopg.Cursor.execute
    with patch.object(psycopg.Cursor, "execute", autospec=True, side_effect=execute) as spy:
        catalog = read_catalog(awkward)
    assert len(catalog) > 140
    assert spy.call_count == 2
    assert [name for kind, name in catalog if "citext" in name] == ["citext"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CHECK ((((a > 1) OR (b > 1)) OR c))", "CHECK (((a > 1) OR (b > 1) OR c))", True),
        ("CHECK (((a > 1) OR (b > 1)) AND c)", "CHECK ((a > 1) OR ((b > 1) AND c))", False),
        (
            "CHECK (((a)::text = ANY ((ARRAY['x'::varchar, 'y'::varchar])::text[])))",
            "CHECK (((a)::text = ANY (ARRAY[('x'::varchar)::text, ('y'::varchar)::text])))",
            True,
        ),
        (
            "CREATE INDEX i ON t (a) WHERE (b = ANY ((ARRAY['x'::varchar])::text[]))",
            "CREATE INDEX i ON t (a) WHERE (b = ANY (ARRAY[('x'::varchar)::text]))",
            True,
        ),
        ("(a * 2) stored", "((a * 2)) stored", True),
        ("(a * 2) stored", "(a * 3) stored", False),
        ("CHECK ((a > 1))", "CHECK ((a > 1)) NO INHERIT", False),
        ("'x'::text", "' x'::text", False),
        ("no sql at all", "no  sql at all", False),
    ],
)
def test_two_ways_of_printing_are_one_definition(one: str, other: str, same: bool) -> None:
    assert same_definition(one, other) is same
